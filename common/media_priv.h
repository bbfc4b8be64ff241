/* media_priv.h - what the media_*.c files share; nobody else includes it. */
#ifndef ONESTEP_COMMON_MEDIA_PRIV_H
#define ONESTEP_COMMON_MEDIA_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include <libavutil/frame.h>

#include "common/base/status.h"
#include "common/media.h"

/* Kinds of image files that are read. */
enum media_format {
    MEDIA_NONE = 0,
    MEDIA_JPEG,
    MEDIA_PNG,
    MEDIA_WEBP,
    MEDIA_TIFF,
    MEDIA_BMP,
    MEDIA_GIF,
    MEDIA_FORMAT_COUNT
};

/* What an image file says about itself before anything is decoded. */
struct media_header {
    enum media_format format;
    int64_t width_px, height_px; /* as stored, before orientation */
    int orientation;             /* EXIF, 1 to 8 */
    int components;              /* of JPEG: 1, 3 or 4 */
    bool has_adobe;              /* JPEG with an Adobe segment: CMYK is stored inverted */
    size_t decode_bytes;         /* how much of the file the decoder is to see */
};

/* Which way a picture's luma and chroma were stored. */
enum media_yuv { MEDIA_YUV_JPEG = 1, MEDIA_YUV_WEBP };

/* Send libav's own messages to log_debug. Call before anything else of libav. Thread: any. */
void media_log_init(void);

/* "JPEG", "PNG", ... for sentences. */
const char *media_format_name(enum media_format format);

/* Read the header, with every offset checked against len, and walk to the end of the picture.
 * Errors: ERR_CORRUPT (not an image, of an unknown kind, truncated), ERR_BADARG (over
 * LIMIT_IMAGE_PIXELS). Source: T.81, PNG 2nd ed., RFC 9649, TIFF 6.0, GIF89a, EXIF 2.32. */
MUST_USE status media_header_read(struct media_header *h, const char *name, const uint8_t *bytes,
                                  size_t len);

/* Convert a decoded picture to rgb [height][width][3], alpha composited over white.
 * rgb: room for f's width and height. Errors: ERR_CORRUPT for a pixel format that is not known. */
MUST_USE status media_color_convert(uint8_t *rgb, const char *name, const AVFrame *f,
                                    enum media_yuv yuv);

/* Convert rgb [height][width][3] of f from the colour profile that came with it to sRGB. Without
 * one, or with one that is damaged or of inks (CMYK), nothing changes: so do browsers, and inks
 * were converted by formula. This function can't fail. */
void media_profile_apply(uint8_t *rgb, const AVFrame *f);

/* dst [h'][w'][3] = src [height_px][width_px][3] turned as EXIF orientation 1 to 8 says; from 5 on
 * w' = height_px and h' = width_px. This function can't fail. */
void media_orient(uint8_t *dst, const uint8_t *src, int width_px, int height_px, int orientation);

/* Frames as a tar of PNGs: media_video_* with MEDIA_FRAMES, which see. finish frees f in any case,
 * close drops it with its file; close accepts NULL. */
struct media_frames;
MUST_USE status media_frames_open(struct media_frames **f, const struct media_video_config *c);
MUST_USE status media_frames_add(struct media_frames *f, const uint8_t *rgb);
MUST_USE status media_frames_finish(struct media_frames *f);
void media_frames_close(struct media_frames *f);

/* The failure that libav's negative code means for path: ENOSPC and the like are ERR_FULL, ENOENT
 * ERR_NOTFOUND, ENOMEM ERR_NOMEM, bad data ERR_CORRUPT, the rest ERR_IO. doing: "writing", ... */
MUST_USE status media_failure(int code, const char *path, const char *doing);

#endif
