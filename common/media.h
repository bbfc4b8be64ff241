/* media.h - pictures and video: decode a photograph, write PNG, MP4, WebM. The media_*.c
 * files are the only users of libav and Little CMS.
 *
 * RGB is 8 bits, [height][width][3], rows without padding. Same input, same build: same bytes.
 * Thread: any; a struct belongs to whoever opened it. */
#ifndef ONESTEP_COMMON_MEDIA_H
#define ONESTEP_COMMON_MEDIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/box.h"

/* A decoded picture. A zeroed struct is an empty one. */
struct media_image {
    int width_px, height_px; /* as it is to be looked at: EXIF orientation is applied */
    uint8_t *rgb;            /* [height_px][width_px][3]; owned, freed by media_image_free */
    char format[16];         /* "jpeg", "png", "webp", "tiff", "bmp", "gif" */
};

/* Decode a photograph: JPEG, PNG, WebP, TIFF, BMP, or the first frame of a GIF, told apart by their
 * content. name: for sentences only ("photo.jpg"). Alpha is composited over white; 16 bits a
 * channel become 8 by rounding v * 255 / 65535; grey, palette and CMYK (Adobe's inverted form too)
 * become RGB; the EXIF orientation of JPEG, PNG, WebP and TIFF is applied. A colour profile of
 * RGB or grey is applied: pixels are sRGB. Size is read from the header and checked before pixels
 * are allocated.
 * Errors: ERR_BADARG when it is over LIMIT_IMAGE_BYTES or LIMIT_IMAGE_PIXELS, with both numbers;
 * ERR_CORRUPT when it is not an image, of another kind, truncated or damaged; ERR_NOMEM.
 * Note: PNG, BMP, GIF, WebP and RGB TIFF equal what Pillow decodes. JPEG differs by 0.05 of 255
 * on average and 3 at most (libav has another inverse DCT; chroma filter and matrix are
 * libjpeg's), CMYK by 1 on average. */
MUST_USE status media_image_decode(struct media_image *img, const char *name, const void *bytes,
                                   size_t len);

#define MEDIA_KINDS "a JPEG, PNG, WebP, TIFF, BMP or GIF image"

/* Do these bytes begin like a picture of one of MEDIA_KINDS? */
bool media_is_image(const void *bytes, size_t len);

/* Decodes photographs in confined processes (common/box.h). A zeroed struct is closed. */
struct media_decoder {
    struct box box;
};

/* Start. CAREFUL: before the program has threads. Errors: those of box_open. */
MUST_USE status media_decoder_open(struct media_decoder *d);

/* Accepts a zeroed struct. */
void media_decoder_close(struct media_decoder *d);

/* media_image_decode, but what the bytes do to libav stays in a process that is thrown away.
 * Errors: also those of box_run. Thread: any. */
MUST_USE status media_decoder_run(struct media_decoder *d, struct media_image *img,
                                  const char *name, const void *bytes, size_t len);

/* Free the pixels. Accepts a zeroed struct. */
void media_image_free(struct media_image *img);

/* Append the picture as a PNG file to out. rgb: [height_px][width_px][3].
 * Errors: ERR_BADARG for a size below 1, ERR_NOMEM, ERR_FULL above out's ceiling. */
MUST_USE status media_png_encode(struct buf *out, const uint8_t *rgb, int width_px, int height_px);

/* media_png_encode into a file at path. Errors: also ERR_FULL for a full disk, ERR_IO. */
MUST_USE status media_png_write(const char *path, const uint8_t *rgb, int width_px, int height_px);

/* Kinds of files that hold a video. */
enum media_container {
    MEDIA_MP4 = 0, /* H.264 */
    MEDIA_WEBM,    /* VP9 */
    MEDIA_FRAMES,  /* no video at all: a tar of PNGs, 0000.png, 0001.png, ... */
    MEDIA_CONTAINER_COUNT
};

/* The video to be written. */
struct media_video_config {
    const char *path; /* to write; borrowed until media_video_open returns */
    enum media_container container;
    bool use_nvenc; /* let a GPU encode MEDIA_MP4, not below 160 pixels; libx264 where it does not,
                       which is logged */
    int width_px, height_px; /* even, 16 or more; of MEDIA_FRAMES 1 or more */
    int fps;                 /* frames per second, 1 or more */
};

/* A video being written. A zeroed struct is one that is not open. */
struct media_video {
    struct media_video_state *state; /* of MP4 and WebM */
    struct media_frames *frames;     /* of MEDIA_FRAMES */
};

/* Does this machine have a GPU that encodes H.264, with its driver? Asks by starting one, which may
 * take a second. */
bool media_has_nvenc(void);

/* Start a video. MP4: H.264 High, CRF 18, index before data (faststart). WebM: VP9, CRF 24. Both:
 * yuv420p, one thread, BT.709 from 720 rows up and BT.601 below, tagged so. All: the same frames
 * give the same file; no dates, no encoder names in it.
 * Errors: ERR_BADARG (size, fps), ERR_FULL, ERR_IO naming path, ERR_NOMEM. */
MUST_USE status media_video_open(struct media_video *v, const struct media_video_config *c);

/* What encodes an open video: "libx264", "h264_nvenc", "libvpx-vp9" or "png". Never freed. */
const char *media_video_encoder(const struct media_video *v);

/* Append the next frame. rgb: [height_px][width_px][3], borrowed for the call. Errors: ERR_FULL
 * naming the path, ERR_IO, ERR_NOMEM. */
MUST_USE status media_video_add(struct media_video *v, const uint8_t *rgb);

/* Flush, write the index, sync to disk, close. Without it the file is not a video.
 * Errors: ERR_BADARG when there was no frame; ERR_FULL, ERR_IO. v is closed in any case, and on
 * failure the file is removed. */
MUST_USE status media_video_finish(struct media_video *v);

/* Drop what is open and remove the unfinished file. Accepts a zeroed or finished struct. */
void media_video_close(struct media_video *v);

/* "mp4", "webm", "tar": what names of such files end with. This function can't fail. */
const char *media_container_ending(enum media_container container);

/* "video/mp4" and so on, for whoever serves such files. This function can't fail. */
const char *media_container_type(enum media_container container);

/* What a video file holds. */
struct media_video_info {
    char codec[32];          /* "h264" */
    char pix_fmt[32];        /* "yuv420p" */
    char color_space[32];    /* "bt709", "smpte170m", ... */
    int width_px, height_px; /* of the pictures */
    double fps;              /* average */
    int frame_count;         /* decoded, not believed */
    double duration_s;       /* of the file */
    bool is_faststart;       /* "moov" lies before "mdat" */
};

/* Read a video file. Errors: ERR_NOTFOUND, ERR_CORRUPT naming path, ERR_NOMEM. */
MUST_USE status media_video_probe(struct media_video_info *info, const char *path);

/* Decode frame frame_index (from 0) into img, converted by the file's own colour tags.
 * Errors: as media_video_probe; ERR_BADARG when there are fewer frames. */
MUST_USE status media_video_frame(struct media_image *img, const char *path, int frame_index);

#endif
