/* A tar (POSIX ustar) of PNGs: 512 bytes of header, the file, zeros up to the next 512, and two
 * empty headers at the end. Dates and owners are zero, so that the same frames give the same
 * file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/media_priv.h"

#define BLOCK 512

struct media_frames {
    char path[FILE_PATH_BYTES];
    int width_px, height_px;
    int fd;
    int count;
    struct buf png;
};

status media_frames_open(struct media_frames **f, const struct media_video_config *c)
{
    struct media_frames *p = calloc(1, sizeof(*p));
    status st = OK;

    *f = NULL;
    if (!p)
        return FAIL(ERR_NOMEM, "%s: no memory for frames", c->path);
    p->fd = -1;
    p->width_px = c->width_px;
    p->height_px = c->height_px;
    p->png.max_bytes = LIMIT_IMAGE_PIXELS * 4;
    TRY(file_join(p->path, sizeof(p->path), "", c->path));
    p->fd = open(p->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (p->fd < 0)
        TRY(file_errno(errno, p->path));
    *f = p;
    return OK;
out:
    media_frames_close(p);
    return st;
}

static status write_all(struct media_frames *f, const void *bytes, size_t len)
{
    const char *next = bytes;

    while (len) {
        ssize_t put = write(f->fd, next, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return file_errno(put ? errno : EIO, f->path);
        next += put;
        len -= (size_t)put;
    }
    return OK;
}

/* Numbers are octal texts. The checksum is the sum of all bytes, itself counted as spaces.
 * Source: IEEE 1003.1-2017, pax, "ustar Interchange Format". */
static void make_header(char block[BLOCK], int index, size_t bytes)
{
    unsigned sum = 0;

    memset(block, 0, BLOCK);
    snprintf(block, 100, "%04d.png", index);
    snprintf(block + 100, 8, "%07o", 0644u);
    snprintf(block + 108, 8, "%07o", 0u);
    snprintf(block + 116, 8, "%07o", 0u);
    snprintf(block + 124, 12, "%011llo", (unsigned long long)bytes);
    snprintf(block + 136, 12, "%011o", 0u);
    block[156] = '0';
    memcpy(block + 257, "ustar\00000", 8);
    memset(block + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum);
}

status media_frames_add(struct media_frames *f, const uint8_t *rgb)
{
    static const char zeros[BLOCK];
    char header[BLOCK];
    status st = OK;

    buf_reset(&f->png);
    TRY(media_png_encode(&f->png, rgb, f->width_px, f->height_px));
    make_header(header, f->count++, f->png.len);
    TRY(write_all(f, header, BLOCK));
    TRY(write_all(f, f->png.data, f->png.len));
    TRY(write_all(f, zeros, (BLOCK - f->png.len % BLOCK) % BLOCK));
out:
    return st;
}

status media_frames_finish(struct media_frames *f)
{
    static const char end[2 * BLOCK];
    status st = OK;

    if (f->count == 0)
        TRY(FAIL(ERR_BADARG, "%s: a video without a frame", f->path));
    TRY(write_all(f, end, sizeof(end)));
    if (fsync(f->fd) != 0)
        TRY(file_errno(errno, f->path));
    close(f->fd);
    f->fd = -1;
out:
    media_frames_close(f);
    return st;
}

void media_frames_close(struct media_frames *f)
{
    if (!f)
        return;
    if (f->fd >= 0) {
        close(f->fd);
        if (file_remove(f->path) != OK)
            status_clear();
    }
    buf_free(&f->png);
    free(f);
}
