/* Pictures against what Pillow made of them (tests/fixtures/images), and videos against
 * themselves. */
#include "common/media.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "tests/tool/disk.h"
#include "tests/tool/test.h"

#define IMAGES "tests/fixtures/images/"

static void read_fixture(const char *name, struct buf *b)
{
    char path[512];

    snprintf(path, sizeof(path), IMAGES "%s", name);
    EXPECT_OK(file_read(path, (size_t)1 << 20, b));
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t len = strlen(text), suffix_len = strlen(suffix);

    return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

/* Call visit for each picture whose name starts with prefix; how many there were. */
static int each_picture(const char *prefix, bool is_bad, void (*visit)(const char *name))
{
    DIR *d = opendir(IMAGES);
    struct dirent *e;
    int count = 0;

    EXPECT(d);
    while ((e = readdir(d))) {
        if (has_suffix(e->d_name, ".rgb") || has_suffix(e->d_name, ".py") || e->d_name[0] == '.' ||
            e->d_name[0] == '_' || has_prefix(e->d_name, "bad-") != is_bad ||
            !has_prefix(e->d_name, prefix))
            continue;
        visit(e->d_name);
        count++;
    }
    closedir(d);
    return count;
}

/* --- decoding ------------------------------------------------------------------------------- */

/* JPEG: libav's inverse DCT is not libjpeg's; measured on 15 photographs: mean 0.045, largest 3.
 * CMYK: libav rounds down where Pillow rounds, so half a step to one step darker. The rest is
 * exact. */
static void tolerance(const char *name, double *mean, int *max)
{
    *mean = has_suffix(name, "cmyk.jpg") || has_suffix(name, "cmyk.tif") ? 1.2
            : has_suffix(name, ".jpg")                                   ? 0.1
                                                                         : 0;
    *max = *mean > 0 ? 4 : 0;
    if (strcmp(name, "icc-wide.jpg") == 0)
        *max = 12; /* the profile stretches dark colours */
}

/* Pictures are decoded there, or in this process when it is NULL. */
static struct media_decoder *confined;

static void compare_with_pillow(const char *name)
{
    struct buf file = { 0 }, want = { 0 };
    struct media_image img;
    char raw[300];
    double sum = 0, mean_max;
    int worst = 0, worst_max;
    size_t bytes;

    read_fixture(name, &file);
    snprintf(raw, sizeof(raw), "%s.rgb", name);
    read_fixture(raw, &want);
    if (confined)
        EXPECT_OK(media_decoder_run(confined, &img, name, file.data, file.len));
    else
        EXPECT_OK(media_image_decode(&img, name, file.data, file.len));
    bytes = (size_t)img.width_px * (size_t)img.height_px * 3;
    if (bytes != want.len)
        test_fail(__FILE__, __LINE__, "%s: %d x %d, want %zu bytes", name, img.width_px,
                  img.height_px, want.len);
    for (size_t i = 0; i < bytes; i++) {
        int off = abs(img.rgb[i] - (unsigned char)want.data[i]);

        sum += off;
        worst = off > worst ? off : worst;
    }
    tolerance(name, &mean_max, &worst_max);
    if (!(sum / (double)bytes <= mean_max) || worst > worst_max)
        test_fail(__FILE__, __LINE__, "%s: mean difference %.3f, worst %d", name,
                  sum / (double)bytes, worst);
    media_image_free(&img);
    buf_free(&file);
    buf_free(&want);
}

TEST(storage_jpegs_are_nearly_what_pillow_sees)
{
    EXPECT_INT(each_picture("jpeg-", false, compare_with_pillow), 15);
}

TEST(storage_pngs_are_what_pillow_sees)
{
    EXPECT_INT(each_picture("png-", false, compare_with_pillow), 13);
}

TEST(storage_other_kinds_are_what_pillow_sees)
{
    EXPECT_INT(each_picture("webp-", false, compare_with_pillow), 5);
    EXPECT_INT(each_picture("tiff-", false, compare_with_pillow), 7);
    EXPECT_INT(each_picture("bmp-", false, compare_with_pillow), 2);
    EXPECT_INT(each_picture("gif-", false, compare_with_pillow), 3);
}

/* Wide-gamut and grey profiles in four kinds of file, and one that is cut. */
TEST(storage_colour_profiles_become_srgb)
{
    EXPECT_INT(each_picture("icc-", false, compare_with_pillow), 6);
}

static void expect_the_same_refusal(const char *name)
{
    struct buf file = { 0 };
    struct media_image img;
    char sentence[512];
    status st;

    read_fixture(name, &file);
    st = media_image_decode(&img, name, file.data, file.len);
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    EXPECT(st != OK);
    EXPECT_STATUS(media_decoder_run(confined, &img, name, file.data, file.len), st);
    EXPECT_TEXT(status_message(), sentence);
    EXPECT(!img.rgb);
    buf_free(&file);
}

/* The confined process needs no system call that it may not make, whatever the kind of picture. */
TEST(storage_pictures_are_decoded_in_confinement)
{
    struct media_decoder d = { 0 };

    EXPECT_OK(media_decoder_open(&d));
    confined = &d;
    EXPECT(each_picture("", false, compare_with_pillow) >= 45);
    EXPECT(each_picture("bad-", true, expect_the_same_refusal) >= 10);
    media_decoder_close(&d);
}

/* 23 wide, 17 high as stored; from orientation 5 on it is shown standing. */
TEST(storage_exif_orientation_turns_the_picture)
{
    for (int o = 1; o <= 8; o++) {
        struct buf file = { 0 };
        struct media_image img;
        char name[64];

        snprintf(name, sizeof(name), "jpeg-exif-%d.jpg", o);
        read_fixture(name, &file);
        EXPECT_OK(media_image_decode(&img, name, file.data, file.len));
        EXPECT_INT(img.width_px, o < 5 ? 23 : 17);
        EXPECT_INT(img.height_px, o < 5 ? 17 : 23);
        EXPECT_TEXT(img.format, "jpeg");
        media_image_free(&img);
        buf_free(&file);
    }
}

static const struct {
    const char *name;
    status code;
    const char *says;
} refused[] = {
    { "bad-cut.jpg", ERR_CORRUPT, "truncated JPEG" },
    { "bad-cut-closed.jpg", ERR_CORRUPT, "truncated JPEG" },
    { "bad-cut-progressive.jpg", ERR_CORRUPT, "truncated JPEG" },
    { "bad-cut-progressive-closed.jpg", ERR_CORRUPT, "truncated JPEG" },
    { "bad-no-end.jpg", ERR_CORRUPT, "truncated JPEG" },
    { "bad-cmyk-plain.jpg", ERR_CORRUPT, "CMYK JPEG" },
    { "bad-cut.png", ERR_CORRUPT, "truncated PNG" },
    { "bad-few-rows.png", ERR_CORRUPT, "truncated PNG" },
    { "bad-crc.png", ERR_CORRUPT, "damaged or truncated PNG" },
    { "bad-bomb.png", ERR_BADARG, "20000 x 20000 is 400.0 million pixels, limit 41.9" },
    { "bad-cut.webp", ERR_CORRUPT, "truncated WebP" },
    { "bad-animated.webp", ERR_CORRUPT, "animated WebP" },
    { "bad-cut.tif", ERR_CORRUPT, "truncated TIFF" },
    { "bad-cut.bmp", ERR_CORRUPT, "truncated BMP" },
    { "bad-cut.gif", ERR_CORRUPT, "truncated GIF" },
};
#define REFUSED_COUNT (sizeof(refused) / sizeof(refused[0]))

static void nothing(const char *name)
{
    (void)name;
}

TEST(storage_bad_pictures_are_refused_with_their_name_and_a_reason)
{
    for (size_t i = 0; i < REFUSED_COUNT; i++) {
        struct buf file = { 0 };
        struct media_image img;
        status st;

        read_fixture(refused[i].name, &file);
        st = media_image_decode(&img, refused[i].name, file.data, file.len);
        if (st != refused[i].code || !strstr(status_message(), refused[i].says) ||
            !has_prefix(status_message(), refused[i].name))
            test_fail(__FILE__, __LINE__, "%s: %s \"%s\"", refused[i].name, status_name(st),
                      status_message());
        EXPECT(img.rgb == NULL);
        buf_free(&file);
    }
    EXPECT_INT(each_picture("", true, nothing), REFUSED_COUNT);
}

TEST(storage_what_is_no_picture_is_said_to_be_none)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } rows[] = {
        { "", 0, "empty" },
        { "hello, world", 12, "not an image" },
        { "<!DOCTYPE html>", 15, "web page" },
        { "\0\0\0\x18"
          "ftypheic",
          12, "HEIC" },
        { "%PDF-1.7", 8, "want JPEG, PNG" },
        { "\x89PNG\r\n\x1a\n", 8, "truncated PNG" },
        { "\xff\xd8\xff", 3, "truncated JPEG" },
        { "\xff\xd8\xff\xd9", 4, "no picture data" },
        { "GIF89a", 6, "truncated GIF" },
        { "II\x2a\0\xff\xff\xff\xff", 8, "truncated TIFF" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct media_image img;

        EXPECT_STATUS(media_image_decode(&img, "x", rows[i].bytes, rows[i].len), ERR_CORRUPT);
        EXPECT_MESSAGE(rows[i].says);
    }
}

/* Headers that promise 30000 x 30000 pixels, in every kind, with hardly a byte behind them. */
TEST(storage_a_bomb_is_refused_from_its_header)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        { "\xff\xd8\xff\xc0\0\x0b\x08\x75\x30\x75\x30\x01\x01\x11\0", 15 },
        { "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0\0\0\0\0", 33 },
        { "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x30\x75\0\0\x30\x75\0\0\x01\0\x18\0", 30 },
        { "GIF89a\x30\x75\x30\x75\0\0\0", 13 },
        { "II\x2a\0\x08\0\0\0\x02\0\0\x01\x03\0\x01\0\0\0\x30\x75\0\0"
          "\x01\x01\x03\0\x01\0\0\0\x30\x75\0\0\0\0\0\0",
          38 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct media_image img;

        EXPECT_STATUS(media_image_decode(&img, "bomb", rows[i].bytes, rows[i].len), ERR_BADARG);
        EXPECT_MESSAGE("30000 x 30000");
    }
}

TEST(storage_too_many_bytes_are_refused_unread)
{
    struct media_image img;

    EXPECT_STATUS(media_image_decode(&img, "big.png", "", LIMIT_IMAGE_BYTES + 1), ERR_BADARG);
    EXPECT_MESSAGE("big.png: 67108865 bytes, limit 67108864");
}

/* These may have bytes behind the picture that nobody needs. */
static bool may_end_early(const char *name)
{
    return has_suffix(name, ".bmp") || has_suffix(name, ".tif") || has_suffix(name, ".gif");
}

/* A file that ends early is never a picture, wherever it ends. The bytes lie at the end of a
 * block of their own, so that the address sanitizer sees a read behind them. */
static void cut_everywhere(const char *name)
{
    struct buf file = { 0 };

    read_fixture(name, &file);
    for (int i = 0; i < 40; i++) {
        size_t len = i == 0 ? file.len - 1 : (size_t)(test_random() % file.len);
        char *copy = malloc(len ? len : 1);
        struct media_image img;
        status st;

        EXPECT(copy);
        memcpy(copy, file.data, len);
        st = media_image_decode(&img, name, copy, len);
        if (st != ERR_CORRUPT && !may_end_early(name))
            test_fail(__FILE__, __LINE__, "%s: the first %zu of %zu bytes gave %s", name, len,
                      file.len, status_name(st));
        media_image_free(&img);
        free(copy);
    }
    buf_free(&file);
}

TEST(storage_a_truncated_picture_is_an_error_wherever_it_ends)
{
    EXPECT(each_picture("", false, cut_everywhere) > 40);
}

/* Damage may go unnoticed (an unlucky bit of colour), but never beyond the bounds of memory. */
static void damage(const char *name)
{
    struct buf file = { 0 };

    read_fixture(name, &file);
    for (int i = 0; i < 30; i++) {
        char *copy = malloc(file.len);
        struct media_image img;

        EXPECT(copy);
        memcpy(copy, file.data, file.len);
        for (int k = 0; k < 1 + i / 10; k++)
            copy[test_random() % (i % 2 ? file.len : 64)] ^= (char)(1 << test_random() % 8);
        if (media_image_decode(&img, name, copy, file.len) == OK)
            EXPECT(img.width_px > 0 && img.height_px > 0 && img.rgb);
        media_image_free(&img);
        free(copy);
    }
    buf_free(&file);
}

TEST(storage_damage_is_survived)
{
    EXPECT(each_picture("", false, damage) > 40);
}

/* --- PNG ------------------------------------------------------------------------------------ */

static uint8_t *noise(int width_px, int height_px)
{
    size_t bytes = (size_t)width_px * (size_t)height_px * 3;
    uint8_t *rgb = malloc(bytes);

    EXPECT(rgb);
    for (size_t i = 0; i < bytes; i++)
        rgb[i] = (uint8_t)test_random();
    return rgb;
}

TEST(storage_a_png_reads_back_as_it_was)
{
    static const int sizes[][2] = { { 1, 1 }, { 1, 40 }, { 33, 1 }, { 65, 47 } };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int w = sizes[i][0], h = sizes[i][1];
        uint8_t *rgb = noise(w, h);
        struct buf png = { 0 }, again = { 0 };
        struct media_image img;

        EXPECT_OK(media_png_encode(&png, rgb, w, h));
        EXPECT_OK(media_image_decode(&img, "x.png", png.data, png.len));
        EXPECT_INT(img.width_px, w);
        EXPECT_INT(img.height_px, h);
        EXPECT(memcmp(img.rgb, rgb, (size_t)w * (size_t)h * 3) == 0);
        EXPECT_OK(media_png_encode(&again, rgb, w, h));
        EXPECT(again.len == png.len && memcmp(again.data, png.data, png.len) == 0);
        media_image_free(&img);
        buf_free(&png);
        buf_free(&again);
        free(rgb);
    }
}

TEST(storage_a_png_of_impossible_size_is_refused)
{
    struct buf png = { 0 };

    EXPECT_STATUS(media_png_encode(&png, NULL, 0, 5), ERR_BADARG);
    EXPECT_STATUS(media_png_encode(&png, NULL, 5, -1), ERR_BADARG);
    EXPECT_STATUS(media_png_encode(&png, NULL, 1 << 20, 1 << 20), ERR_BADARG);
}

TEST(storage_a_png_on_a_full_disk_says_so)
{
    uint8_t *rgb = noise(200, 200);
    char path[512];

    snprintf(path, sizeof(path), "%s/poster.png", disk_small(64 << 10));
    EXPECT_STATUS(media_png_write(path, rgb, 200, 200), ERR_FULL);
    EXPECT_MESSAGE(path);
    EXPECT(!file_exists(path));
    free(rgb);
}

/* --- video ---------------------------------------------------------------------------------- */

/* Smooth and moving, as frames of a clip are. */
static void paint(uint8_t *rgb, int w, int h, int frame)
{
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++, rgb += 3) {
            rgb[0] = (uint8_t)(128 + 120 * sin(0.05 * x + 0.3 * frame));
            rgb[1] = (uint8_t)(128 + 120 * sin(0.07 * y - 0.2 * frame));
            rgb[2] = (uint8_t)(255 * x / w);
        }
    }
}

static void write_video_in(enum media_container container, const char *path, int w, int h, int fps,
                           int frames)
{
    const struct media_video_config c = {
        .path = path, .container = container, .width_px = w, .height_px = h, .fps = fps
    };
    struct media_video v = { 0 };
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);

    EXPECT(rgb);
    EXPECT_OK(media_video_open(&v, &c));
    for (int i = 0; i < frames; i++) {
        paint(rgb, w, h, i);
        EXPECT_OK(media_video_add(&v, rgb));
    }
    EXPECT_OK(media_video_finish(&v));
    EXPECT(v.state == NULL);
    media_video_close(&v);
    free(rgb);
}

static void write_video(const char *path, int w, int h, int fps, int frames)
{
    write_video_in(MEDIA_MP4, path, w, h, fps, frames);
}

static double psnr(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    double sum = 0;

    for (size_t i = 0; i < bytes; i++)
        sum += (a[i] - b[i]) * (double)(a[i] - b[i]);
    return 10 * log10(255.0 * 255.0 * (double)bytes / (sum + 1e-9));
}

static const char *tmp_path(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
    return path;
}

TEST(storage_a_video_holds_its_frames)
{
    const char *path = tmp_path("a clip: 1.mp4");
    struct media_video_info info;
    uint8_t want[96 * 64 * 3];

    write_video(path, 96, 64, 7, 14);
    EXPECT_OK(media_video_probe(&info, path));
    EXPECT_TEXT(info.codec, "h264");
    EXPECT_TEXT(info.pix_fmt, "yuv420p");
    EXPECT_TEXT(info.color_space, "smpte170m");
    EXPECT_INT(info.width_px, 96);
    EXPECT_INT(info.height_px, 64);
    EXPECT_INT(info.frame_count, 14);
    EXPECT(info.is_faststart);
    EXPECT_NEAR(info.fps, 7, 1e-9);        /* an exact ratio in the file */
    EXPECT_NEAR(info.duration_s, 2, 1e-2); /* microseconds, rounded up */
    for (int i = 0; i < 14; i += 13) {
        struct media_image img;

        EXPECT_OK(media_video_frame(&img, path, i));
        paint(want, 96, 64, i);
        /* CRF 18 gives 42 dB here; 35 would be visible, and swapped colours give 10. */
        EXPECT(psnr(img.rgb, want, sizeof(want)) > 38);
        media_image_free(&img);
    }
}

TEST(storage_a_video_of_720_rows_is_bt709)
{
    const char *path = tmp_path("hd.mp4");
    struct media_video_info info;
    struct media_image img;
    uint8_t *want = malloc((size_t)1280 * 720 * 3);

    EXPECT(want);
    write_video(path, 1280, 720, 24, 2);
    EXPECT_OK(media_video_probe(&info, path));
    EXPECT_TEXT(info.color_space, "bt709");
    EXPECT_NEAR(info.fps, 24, 1e-9); /* an exact ratio in the file */
    EXPECT_OK(media_video_frame(&img, path, 1));
    paint(want, 1280, 720, 1);
    EXPECT(psnr(img.rgb, want, (size_t)1280 * 720 * 3) > 38);
    media_image_free(&img);
    free(want);
}

/* Small videos never go to the GPU; others do where there is one, and to libx264, with a line in
 * the log, where there is none. */
TEST(storage_nvenc_encodes_where_there_is_one)
{
    static const struct {
        int width_px;
        enum media_container container;
        const char *with, *without; /* a GPU */
    } rows[] = {
        { 128, MEDIA_MP4, "libx264", "libx264" },
        { 256, MEDIA_MP4, "h264_nvenc", "libx264" },
        { 256, MEDIA_WEBM, "libvpx-vp9", "libvpx-vp9" },
        { 256, MEDIA_FRAMES, "png", "png" },
    };
    bool has = media_has_nvenc();
    uint8_t *rgb = calloc(256 * 256, 3);
    char log[FILE_PATH_BYTES];
    struct buf text = { 0 };

    EXPECT(rgb);
    EXPECT_OK(file_join(log, sizeof(log), test_tmpdir(), "log"));
    EXPECT(freopen(log, "w", stderr));
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        static const char *const names[] = { "gpu.mp4", "gpu.webm", "gpu.tar" };
        const struct media_video_config c = { .path = tmp_path(names[rows[row].container]),
                                              .container = rows[row].container,
                                              .use_nvenc = true,
                                              .width_px = rows[row].width_px,
                                              .height_px = 256,
                                              .fps = 7 };
        struct media_video v = { 0 };
        struct media_video_info info;

        EXPECT_OK(media_video_open(&v, &c));
        EXPECT_TEXT(media_video_encoder(&v), has ? rows[row].with : rows[row].without);
        for (int i = 0; i < 5; i++) {
            paint(rgb, c.width_px, 256, i);
            EXPECT_OK(media_video_add(&v, rgb));
        }
        EXPECT_OK(media_video_finish(&v));
        if (c.container == MEDIA_FRAMES)
            continue;
        EXPECT_OK(media_video_probe(&info, c.path));
        EXPECT_TEXT(info.codec, c.container == MEDIA_MP4 ? "h264" : "vp9");
        EXPECT_INT(info.frame_count, 5);
    }
    fflush(stderr);
    EXPECT_OK(file_read(log, 1 << 20, &text));
    EXPECT(has ==
           !strstr(text.len ? text.data : "", "video.fallback from=h264_nvenc to=libx264 error="));
    buf_free(&text);
    free(rgb);
}

TEST(storage_a_webm_holds_its_frames)
{
    const char *path = tmp_path("clip.webm");
    struct media_video_info info;
    uint8_t want[96 * 64 * 3];

    write_video_in(MEDIA_WEBM, path, 96, 64, 7, 14);
    EXPECT_OK(media_video_probe(&info, path));
    EXPECT_TEXT(info.codec, "vp9");
    EXPECT_TEXT(info.pix_fmt, "yuv420p");
    EXPECT_INT(info.frame_count, 14);
    EXPECT_NEAR(info.duration_s, 2, 1e-2); /* WebM counts milliseconds */
    for (int i = 0; i < 14; i += 13) {
        struct media_image img;

        EXPECT_OK(media_video_frame(&img, path, i));
        paint(want, 96, 64, i);
        EXPECT(psnr(img.rgb, want, sizeof(want)) > 36); /* 35 would be visible */
        media_image_free(&img);
    }
}

/* Every frame, bit by bit, in a file that the tar of this machine reads. */
TEST(storage_frames_are_a_tar_of_pngs)
{
    struct buf file = { 0 };
    struct media_image img;
    uint8_t want[45 * 31 * 3];
    char command[1200];
    size_t at = 0;

    write_video_in(MEDIA_FRAMES, tmp_path("frames.tar"), 45, 31, 7, 3);
    EXPECT_OK(file_read(tmp_path("frames.tar"), (size_t)1 << 20, &file));
    snprintf(command, sizeof(command), "tar -tf '%s' | tr '\\n' ' ' | grep -qx '%s'",
             tmp_path("frames.tar"), "0000.png 0001.png 0002.png ");
    EXPECT_INT(system(command), 0);
    for (int i = 0; i < 3; i++) {
        size_t bytes = strtoul(file.data + at + 124, NULL, 8);

        EXPECT_OK(media_image_decode(&img, "frame", file.data + at + 512, bytes));
        paint(want, 45, 31, i);
        EXPECT(img.width_px == 45 && memcmp(img.rgb, want, sizeof(want)) == 0);
        media_image_free(&img);
        at += 512 + (bytes + 511) / 512 * 512;
    }
    EXPECT_INT(file.len, at + 1024);
    buf_free(&file);
}

static void expect_same_bytes(enum media_container container)
{
    struct buf a = { 0 }, b = { 0 };
    char first[512];

    snprintf(first, sizeof(first), "%s", tmp_path("a"));
    write_video_in(container, first, 128, 96, 8, 9);
    write_video_in(container, tmp_path("b"), 128, 96, 8, 9);
    EXPECT_OK(file_read(first, (size_t)1 << 20, &a));
    EXPECT_OK(file_read(tmp_path("b"), (size_t)1 << 20, &b));
    EXPECT(a.len > 500 && a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    /* Neither encoder nor muxer signs its work: an update of either need not change files. */
    EXPECT(!memmem(a.data, a.len, "x264", 4) && !memmem(a.data, a.len, "Lavf5", 5) &&
           !memmem(a.data, a.len, "Lavc5", 5));
    buf_free(&a);
    buf_free(&b);
}

TEST(storage_the_same_frames_give_the_same_file)
{
    expect_same_bytes(MEDIA_MP4);
}

TEST(storage_the_same_frames_give_the_same_file_in_every_container)
{
    expect_same_bytes(MEDIA_WEBM);
    expect_same_bytes(MEDIA_FRAMES);
}

TEST(storage_impossible_videos_are_refused)
{
    static const struct {
        int w, h, fps;
        const char *says;
    } rows[] = {
        { 95, 64, 7, "even" },        { 96, 63, 7, "even" },
        { 0, 64, 7, "16 to" },        { 96, 8, 7, "16 to" },
        { 1 << 20, 64, 7, "16 to" },  { 96, 64, 0, "frames per second" },
        { 96, 64, -1, "per second" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct media_video_config c = {
            .path = "v.mp4", .width_px = rows[i].w, .height_px = rows[i].h, .fps = rows[i].fps
        };
        struct media_video v;

        EXPECT_STATUS(media_video_open(&v, &c), ERR_BADARG);
        EXPECT_MESSAGE(rows[i].says);
        EXPECT(v.state == NULL && !file_exists("v.mp4"));
    }
}

TEST(storage_an_unfinished_video_leaves_no_file)
{
    const struct media_video_config c = {
        .path = tmp_path("v.mp4"), .width_px = 64, .height_px = 64, .fps = 5
    };
    struct media_video v;
    uint8_t rgb[64 * 64 * 3] = { 0 };

    EXPECT_OK(media_video_open(&v, &c));
    EXPECT_STATUS(media_video_finish(&v), ERR_BADARG);
    EXPECT_MESSAGE("without a frame");
    EXPECT(!file_exists(c.path));
    EXPECT_OK(media_video_open(&v, &c));
    EXPECT_OK(media_video_add(&v, rgb));
    EXPECT(file_exists(c.path));
    media_video_close(&v);
    media_video_close(&v);
    EXPECT(!file_exists(c.path));
}

TEST(storage_a_video_in_a_missing_folder_says_so)
{
    const struct media_video_config c = {
        .path = "no/such/folder/v.mp4", .width_px = 64, .height_px = 64, .fps = 5
    };
    struct media_video v;

    EXPECT_STATUS(media_video_open(&v, &c), ERR_NOTFOUND);
    EXPECT_MESSAGE("no/such/folder/v.mp4");
}

/* Noise does not compress: the disk fills up while frames are written, or at the latest at the
 * end. */
TEST(storage_a_video_on_a_full_disk_says_so)
{
    char path[512];
    struct media_video_config c = { .path = path, .width_px = 256, .height_px = 256, .fps = 5 };
    struct media_video v;
    status st = OK;

    snprintf(path, sizeof(path), "%s/v.mp4", disk_small(128 << 10));
    EXPECT_OK(media_video_open(&v, &c));
    for (int i = 0; i < 30 && st == OK; i++) {
        uint8_t *rgb = noise(256, 256);

        st = media_video_add(&v, rgb);
        free(rgb);
    }
    if (st == OK)
        st = media_video_finish(&v);
    EXPECT_STATUS(st, ERR_FULL);
    EXPECT_MESSAGE(path);
    media_video_close(&v);
    EXPECT(!file_exists(path));
}

TEST(storage_what_is_no_video_is_said_to_be_none)
{
    struct media_video_info info;
    struct media_image img;
    const char *path = tmp_path("x.mp4");

    EXPECT_STATUS(media_video_probe(&info, "no/such.mp4"), ERR_NOTFOUND);
    EXPECT_OK(file_write_atomic(path, "this is not a video at all, is it", 33));
    EXPECT_STATUS(media_video_probe(&info, path), ERR_CORRUPT);
    EXPECT_MESSAGE("x.mp4");
    write_video(path, 64, 64, 5, 3);
    EXPECT_STATUS(media_video_frame(&img, path, 3), ERR_BADARG);
    EXPECT_MESSAGE("it has 3");
}
