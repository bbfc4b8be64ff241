#include "client/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/url.h"
#include "proto/spec.h"

/* Longest word that a prefix is made of. */
#define STEM_MAX 60

const char *input_format(const unsigned char *bytes, size_t len)
{
    static const struct {
        const char *name, *magic;
        size_t len;
    } formats[] = {
        { "jpeg", "\xff\xd8\xff", 3 }, { "png", "\x89PNG\r\n\x1a\n", 8 },
        { "gif", "GIF8", 4 },          { "bmp", "BM", 2 },
        { "tiff", "II*\0", 4 },        { "tiff", "MM\0*", 4 },
    };

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (len >= formats[i].len && memcmp(bytes, formats[i].magic, formats[i].len) == 0)
            return formats[i].name;
    }
    if (len >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return "webp";
    return NULL;
}

static status check_file(const char *shown, int fd)
{
    unsigned char head[16];
    struct stat info;
    ssize_t got;

    if (fstat(fd, &info) != 0)
        return FAIL(ERR_IO, "%s: %s", shown, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return FAIL(ERR_BADARG, "%s: a folder; name the photographs in it", shown);
    if (!S_ISREG(info.st_mode))
        return FAIL(ERR_BADARG, "%s: not a regular file", shown);
    if ((uint64_t)info.st_size > LIMIT_IMAGE_BYTES)
        return FAIL(ERR_BADARG, "%s: %lld bytes, the limit for a photograph is %zu", shown,
                    (long long)info.st_size, LIMIT_IMAGE_BYTES);
    got = read(fd, head, sizeof(head));
    if (got < 0)
        return FAIL(ERR_IO, "%s: %s", shown, strerror(errno));
    if (!input_format(head, (size_t)got))
        return FAIL(ERR_CORRUPT, "%s: not an image; give a JPEG, PNG, WebP, TIFF, BMP or GIF file",
                    shown);
    return OK;
}

static status resolve_file(const char *text, const char *folder, char *url, size_t room)
{
    char path[FILE_PATH_BYTES];
    char *real = NULL;
    int fd = -1;
    status st = OK;

    TRY(file_join(path, sizeof(path), text[0] == '/' ? "" : folder, text));
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        TRY(file_errno(errno, path));
    TRY(check_file(path, fd));
    real = realpath(path, NULL);
    if (!real)
        TRY(file_errno(errno, path));
    TRY(url_from_path(real, url, room));
out:
    free(real);
    if (fd >= 0)
        close(fd);
    return st;
}

static bool has_scheme(const char *text)
{
    static const char *const schemes[] = { "http://", "https://", "s3://", "file://" };

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
            return true;
    }
    return false;
}

status input_resolve(const char *text, const char *folder, char *url, size_t room)
{
    const char *scheme = strstr(text, "://");
    struct url parsed;
    status st = OK;

    if (!*text)
        return FAIL(ERR_BADARG, "image: empty; name a file or a URL");
    if (!has_scheme(text)) {
        if (scheme && scheme - text < 12 && !file_exists(text))
            return FAIL(ERR_BADARG,
                        "%.80s: scheme %.*s is not known; use a file, http://, https:// "
                        "or s3://",
                        text, (int)(scheme - text), text);
        return resolve_file(text, folder, url, room);
    }
    TRY(url_parse(&parsed, text));
    if (strlen(text) >= room || strlen(text) >= SPEC_URL_MAX)
        TRY(FAIL(ERR_BADARG, "image: a URL of %zu bytes, the limit is %d", strlen(text),
                 SPEC_URL_MAX - 1));
    memcpy(url, text, strlen(text) + 1);
out:
    return st;
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void input_stem(const char *text, char *dst, size_t room)
{
    size_t end = strcspn(text, "?");
    size_t start, dot, len = 0;

    while (end > 0 && text[end - 1] == '/')
        end--;
    for (start = end; start > 0 && text[start - 1] != '/';)
        start--;
    for (dot = end; dot > start && text[dot - 1] != '.';)
        dot--;
    if (dot > start + 1)
        end = dot - 1;
    for (size_t i = start; i < end && len + 1 < room && len < STEM_MAX; i++) {
        if (is_plain(text[i]))
            dst[len++] = text[i];
        else if (len > 0 && dst[len - 1] != '-')
            dst[len++] = '-';
    }
    while (len > 0 && dst[len - 1] == '-')
        len--;
    if (len == 0)
        dst[len++] = 'x';
    dst[len] = '\0';
}
