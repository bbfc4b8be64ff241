/* Frames -> swscale (RGB to 4:2:0) -> libx264 -> a filter that takes out the encoder's signature
 * (an SEI unit with x264's version and options) -> MP4 with its index moved to the front. Or
 * libvpx, no filter, WebM. What has no encoder at all is media_frames.c's.
 *
 * One thread and bit-exact flags everywhere: the same frames give the same file. */
#include "common/media.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavcodec/bsf.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/media_priv.h"

#define HD_ROWS 720 /* from here on players assume BT.709, below BT.601 */
#define SIZE_MIN_PX 16
#define SIZE_MAX_PX 16384
#define FPS_MAX 1000

/* H.264 by a GPU: a kind beside those of enum media_container. */
#define KIND_NVENC MEDIA_CONTAINER_COUNT
#define NVENC_MIN_PX 160 /* NVENC refuses less than 145 x 49 */

/* How the kinds differ. Options go to the encoder's own table. */
static const struct {
    const char *encoder, *package; /* and Debian's package that has it */
    const char *options[5][2];     /* NULL-ended */
    const char *filter, *filter_option, *filter_value;
    const char *muxer, *muxer_option, *muxer_value;
    bool has_global_header;
} kinds[] = {
    [MEDIA_MP4] = { "libx264",
                    "libavcodec59 or libavcodec-extra59",
                    { { "preset", "veryfast" }, { "crf", "18" }, { "profile", "high" } },
                    "filter_units",
                    "remove_types",
                    "6", /* SEI */
                    "mp4",
                    "movflags",
                    "+faststart",
                    true },
    [MEDIA_WEBM] = { "libvpx-vp9",
                     "libavcodec59 or libavcodec-extra59",
                     { { "crf", "24" }, { "deadline", "good" }, { "cpu-used", "5" } },
                     "null",
                     NULL,
                     NULL,
                     "webm",
                     NULL,
                     NULL,
                     false },
    [KIND_NVENC] = { "h264_nvenc",
                     "libavcodec59 or libavcodec-extra59",
                     { { "preset", "p4" }, { "rc", "vbr" }, { "cq", "19" }, { "profile", "high" } },
                     "filter_units",
                     "remove_types",
                     "6", /* SEI */
                     "mp4",
                     "movflags",
                     "+faststart",
                     true },
};

static int kind_of(const struct media_video_config *c)
{
    bool is_large = c->width_px >= NVENC_MIN_PX && c->height_px >= NVENC_MIN_PX;

    return c->container == MEDIA_MP4 && c->use_nvenc && is_large ? KIND_NVENC : (int)c->container;
}

struct media_video_state {
    int kind;                      /* index of kinds */
    char url[FILE_PATH_BYTES + 8]; /* "file:" and the path */
    AVCodecContext *encoder;
    AVBSFContext *filter;
    AVFormatContext *file;
    struct SwsContext *scaler;
    AVFrame *frame;   /* yuv420p */
    AVPacket *packet; /* scratch */
    int64_t frame_count;
    bool is_created; /* the file exists because of us */
};

static const char *path_of(const struct media_video_state *s)
{
    return s->url + strlen("file:");
}

static status failure(const struct media_video_state *s, int code)
{
    return media_failure(code, path_of(s), "writing");
}

static bool is_hd(int height_px)
{
    return height_px >= HD_ROWS;
}

static status check_config(const struct media_video_config *c)
{
    if (c->width_px < SIZE_MIN_PX || c->height_px < SIZE_MIN_PX || c->width_px > SIZE_MAX_PX ||
        c->height_px > SIZE_MAX_PX)
        return FAIL(ERR_BADARG, "%s: a video of %d x %d pixels; want %d to %d each way", c->path,
                    c->width_px, c->height_px, SIZE_MIN_PX, SIZE_MAX_PX);
    if (c->width_px % 2 || c->height_px % 2)
        return FAIL(ERR_BADARG, "%s: a video of %d x %d pixels; H.264 in 4:2:0 wants even numbers",
                    c->path, c->width_px, c->height_px);
    if (c->fps < 1 || c->fps > FPS_MAX)
        return FAIL(ERR_BADARG, "%s: %d frames per second, want 1 to %d", c->path, c->fps, FPS_MAX);
    if (strlen(c->path) >= FILE_PATH_BYTES)
        return FAIL(ERR_BADARG, "%.80s...: a path of %zu bytes, limit %d", c->path, strlen(c->path),
                    FILE_PATH_BYTES - 1);
    return OK;
}

static int set_options(AVCodecContext *e, int kind)
{
    int code = 0;

    for (int i = 0; code == 0 && kinds[kind].options[i][0]; i++)
        code = av_opt_set(e->priv_data, kinds[kind].options[i][0], kinds[kind].options[i][1], 0);
    return code;
}

static status open_encoder(struct media_video_state *s, const struct media_video_config *c)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(kinds[s->kind].encoder);
    AVCodecContext *e;
    int code;

    if (!codec)
        return FAIL(ERR_IO, "this machine's libavcodec has no %s; install Debian's %s",
                    kinds[s->kind].encoder, kinds[s->kind].package);
    e = s->encoder = avcodec_alloc_context3(codec);
    if (!e)
        return FAIL(ERR_NOMEM, "%s: no memory for an encoder", c->path);
    e->width = c->width_px;
    e->height = c->height_px;
    e->pix_fmt = AV_PIX_FMT_YUV420P;
    e->time_base = (AVRational){ 1, c->fps };
    e->framerate = (AVRational){ c->fps, 1 };
    e->sample_aspect_ratio = (AVRational){ 1, 1 };
    e->thread_count = 1;
    e->flags |= AV_CODEC_FLAG_BITEXACT;
    if (kinds[s->kind].has_global_header)
        e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    e->color_range = AVCOL_RANGE_MPEG;
    e->colorspace = is_hd(c->height_px) ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
    e->color_primaries = is_hd(c->height_px) ? AVCOL_PRI_BT709 : AVCOL_PRI_SMPTE170M;
    e->color_trc = is_hd(c->height_px) ? AVCOL_TRC_BT709 : AVCOL_TRC_SMPTE170M;
    e->chroma_sample_location = AVCHROMA_LOC_LEFT;
    code = set_options(e, s->kind);
    if (code == 0)
        code = avcodec_open2(e, codec, NULL);
    return code < 0 ? media_failure(code, c->path, "starting the video encoder") : OK;
}

static status open_filter(struct media_video_state *s)
{
    const AVBitStreamFilter *f = av_bsf_get_by_name(kinds[s->kind].filter);
    int code;

    if (!f)
        return FAIL(ERR_IO, "this machine's libavcodec has no %s; install libavcodec59",
                    kinds[s->kind].filter);
    code = av_bsf_alloc(f, &s->filter);
    if (code == 0 && kinds[s->kind].filter_option)
        code = av_opt_set(s->filter->priv_data, kinds[s->kind].filter_option,
                          kinds[s->kind].filter_value, 0);
    if (code == 0)
        code = avcodec_parameters_from_context(s->filter->par_in, s->encoder);
    if (code < 0)
        return failure(s, code);
    s->filter->time_base_in = s->encoder->time_base;
    code = av_bsf_init(s->filter);
    return code < 0 ? failure(s, code) : OK;
}

static status open_scaler(struct media_video_state *s)
{
    const AVCodecContext *e = s->encoder;
    int space = e->colorspace == AVCOL_SPC_BT709 ? SWS_CS_ITU709 : SWS_CS_ITU601;

    s->scaler = sws_getContext(
        e->width, e->height, AV_PIX_FMT_RGB24, e->width, e->height, AV_PIX_FMT_YUV420P,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL, NULL);
    s->frame = av_frame_alloc();
    s->packet = av_packet_alloc();
    if (!s->scaler || !s->frame || !s->packet)
        return FAIL(ERR_NOMEM, "%s: no memory for frames of %d x %d", path_of(s), e->width,
                    e->height);
    if (sws_setColorspaceDetails(s->scaler, sws_getCoefficients(SWS_CS_DEFAULT), 1,
                                 sws_getCoefficients(space), 0, 0, 1 << 16, 1 << 16) < 0)
        return FAIL(ERR_IO, "%s: swscale cannot convert RGB to %s", path_of(s),
                    space == SWS_CS_ITU709 ? "BT.709" : "BT.601");
    s->frame->width = e->width;
    s->frame->height = e->height;
    s->frame->format = AV_PIX_FMT_YUV420P;
    if (av_frame_get_buffer(s->frame, 0) < 0)
        return FAIL(ERR_NOMEM, "%s: no memory for frames of %d x %d", path_of(s), e->width,
                    e->height);
    return OK;
}

static status open_file(struct media_video_state *s)
{
    AVDictionary *options = NULL;
    AVStream *stream;
    int code = avformat_alloc_output_context2(&s->file, NULL, kinds[s->kind].muxer, s->url);

    if (code < 0)
        return failure(s, code);
    s->file->flags |= AVFMT_FLAG_BITEXACT;
    stream = avformat_new_stream(s->file, NULL);
    if (!stream)
        return FAIL(ERR_NOMEM, "%s: no memory for a file", path_of(s));
    stream->time_base = s->encoder->time_base;
    stream->avg_frame_rate = s->encoder->framerate;
    code = avcodec_parameters_copy(stream->codecpar, s->filter->par_out);
    if (code == 0)
        code = avio_open(&s->file->pb, s->url, AVIO_FLAG_WRITE);
    if (code < 0)
        return failure(s, code);
    s->is_created = true;
    if (kinds[s->kind].muxer_option)
        code = av_dict_set(&options, kinds[s->kind].muxer_option, kinds[s->kind].muxer_value, 0);
    if (code >= 0)
        code = avformat_write_header(s->file, &options);
    av_dict_free(&options);
    if (code < 0)
        return failure(s, code);
    return OK;
}

/* A GPU may have gone, or have no session left: the processor does as well, and says so. */
static status open_some_encoder(struct media_video_state *s, const struct media_video_config *c)
{
    status st = open_encoder(s, c);

    if (st == OK || s->kind != KIND_NVENC)
        return st;
    log_warn("video.fallback", "from=%s to=%s error=\"%s\"", kinds[KIND_NVENC].encoder,
             kinds[MEDIA_MP4].encoder, status_message());
    status_clear();
    avcodec_free_context(&s->encoder);
    s->kind = MEDIA_MP4;
    return open_encoder(s, c);
}

status media_video_open(struct media_video *v, const struct media_video_config *c)
{
    status st = OK;
    struct media_video_state *s = NULL;

    media_log_init();
    *v = (struct media_video){ NULL, NULL };
    CHECK(c->container < MEDIA_CONTAINER_COUNT);
    if (c->container == MEDIA_FRAMES)
        return media_frames_open(&v->frames, c);
    TRY(check_config(c));
    s = calloc(1, sizeof(*s));
    if (!s)
        TRY(FAIL(ERR_NOMEM, "%s: no memory for a video", c->path));
    v->state = s;
    s->kind = kind_of(c);
    snprintf(s->url, sizeof(s->url), "file:%s", c->path);
    TRY(open_some_encoder(s, c));
    TRY(open_filter(s));
    TRY(open_scaler(s));
    TRY(open_file(s));
    return OK;
out:
    media_video_close(v);
    return st;
}

/* One finished packet to the file. */
static status write_packet(struct media_video_state *s)
{
    AVStream *stream = s->file->streams[0];
    int code;

    s->packet->stream_index = 0;
    s->packet->duration = 1;
    av_packet_rescale_ts(s->packet, s->encoder->time_base, stream->time_base);
    code = av_write_frame(s->file, s->packet);
    av_packet_unref(s->packet);
    if (code >= 0)
        code = s->file->pb->error;
    return code < 0 ? failure(s, code) : OK;
}

/* Everything that the filter has ready; is_end: nothing more will come in. */
static status drain_filter(struct media_video_state *s, bool is_end)
{
    int code = is_end ? av_bsf_send_packet(s->filter, NULL) : 0;
    status st;

    while (code == 0) {
        code = av_bsf_receive_packet(s->filter, s->packet);
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF)
            return OK;
        if (code == 0) {
            st = write_packet(s);
            if (st != OK)
                return st;
        }
    }
    return failure(s, code);
}

/* frame: the next one, or NULL at the end. */
static status encode(struct media_video_state *s, AVFrame *frame)
{
    int code = avcodec_send_frame(s->encoder, frame);
    status st;

    while (code == 0) {
        code = avcodec_receive_packet(s->encoder, s->packet);
        if (code == AVERROR(EAGAIN))
            return OK;
        if (code == AVERROR_EOF)
            return drain_filter(s, true);
        if (code == 0)
            code = av_bsf_send_packet(s->filter, s->packet);
        if (code == 0) {
            st = drain_filter(s, false);
            if (st != OK)
                return st;
        }
    }
    return failure(s, code);
}

status media_video_add(struct media_video *v, const uint8_t *rgb)
{
    struct media_video_state *s = v->state;
    const uint8_t *rows[1] = { rgb };
    int stride[1];
    int code;

    if (v->frames)
        return media_frames_add(v->frames, rgb);
    CHECK(s);
    stride[0] = s->encoder->width * 3;
    code = av_frame_make_writable(s->frame);
    if (code == 0)
        code = sws_scale(s->scaler, rows, stride, 0, s->encoder->height, s->frame->data,
                         s->frame->linesize);
    if (code < 0)
        return failure(s, code);
    s->frame->pts = s->frame_count++;
    return encode(s, s->frame);
}

static status sync_path(const char *path)
{
    status st = OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        st = file_errno(errno, path);
    if (fd >= 0)
        close(fd);
    return st;
}

status media_video_finish(struct media_video *v)
{
    status st = OK;
    struct media_video_state *s = v->state;
    int code, close_code;

    if (v->frames) {
        st = media_frames_finish(v->frames);
        v->frames = NULL;
        return st;
    }
    CHECK(s);
    if (s->frame_count == 0)
        TRY(FAIL(ERR_BADARG, "%s: a video without a frame", path_of(s)));
    TRY(encode(s, NULL));
    code = av_write_trailer(s->file);
    if (code >= 0)
        code = s->file->pb->error;
    close_code = avio_closep(&s->file->pb);
    if (code >= 0)
        code = close_code;
    if (code < 0)
        TRY(failure(s, code));
    TRY(sync_path(path_of(s)));
    s->is_created = false; /* from here on it is the caller's */
out:
    media_video_close(v);
    return st;
}

/* An unfinished video is of no use; a device that somebody gave as the path stays. */
static void remove_unfinished(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        unlink(path);
}

void media_video_close(struct media_video *v)
{
    struct media_video_state *s = v->state;

    media_frames_close(v->frames);
    v->frames = NULL;
    if (!s)
        return;
    if (s->file)
        avio_closep(&s->file->pb);
    avformat_free_context(s->file);
    if (s->is_created)
        remove_unfinished(path_of(s));
    av_packet_free(&s->packet);
    av_frame_free(&s->frame);
    sws_freeContext(s->scaler);
    av_bsf_free(&s->filter);
    avcodec_free_context(&s->encoder);
    free(s);
    v->state = NULL;
}

const char *media_container_ending(enum media_container container)
{
    static const char *const endings[] = { "mp4", "webm", "tar" };

    CHECK(container < MEDIA_CONTAINER_COUNT);
    return endings[container];
}

const char *media_container_type(enum media_container container)
{
    static const char *const types[] = { "video/mp4", "video/webm", "application/x-tar" };

    CHECK(container < MEDIA_CONTAINER_COUNT);
    return types[container];
}

const char *media_video_encoder(const struct media_video *v)
{
    return v->state ? kinds[v->state->kind].encoder : "png";
}

bool media_has_nvenc(void)
{
    const struct media_video_config config = {
        .path = "", .use_nvenc = true, .width_px = 256, .height_px = 256, .fps = 8
    };
    struct media_video_state s = { .kind = KIND_NVENC };
    bool has;

    media_log_init();
    has = open_encoder(&s, &config) == OK;
    avcodec_free_context(&s.encoder);
    status_clear();
    return has;
}
