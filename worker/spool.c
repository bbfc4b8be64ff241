#include "worker/spool.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/id.h"

#define RECORD "item.json"

status spool_path(const struct spool_item *item, const char *name, char path[FILE_PATH_BYTES])
{
    return file_join(path, FILE_PATH_BYTES, item->dir, name);
}

status spool_begin(struct spool_item **item, const char *work_dir, const struct lease *lease)
{
    struct spool_item *p = calloc(1, sizeof(*p));
    char nonce[17];
    status st = OK;

    *item = NULL;
    if (!p)
        return FAIL(ERR_NOMEM, "no memory for another result");
    p->lease = *lease;
    id_nonce_text(nonce, lease->nonce);
    TRY(file_join(p->dir, sizeof(p->dir), work_dir, nonce));
    TRY(file_make_dirs(p->dir));
    *item = p;
    return OK;
out:
    free(p);
    return st;
}

void spool_free(struct spool_item *item)
{
    free(item);
}

void spool_free_all(struct spool_item *list)
{
    while (list) {
        struct spool_item *item = list;

        list = item->next;
        free(item);
    }
}

void spool_drop(struct spool_item *item)
{
    char record[FILE_PATH_BYTES];
    status st = OK;

    if (!item)
        return;
    /* The record goes first, so that half an item is never taken for a whole one. */
    TRY(spool_path(item, RECORD, record));
    TRY(file_remove(record));
    TRY(file_remove_tree(item->dir));
out:
    if (st != OK)
        log_warn("spool.leftover", "error=\"%s\"", status_message());
    free(item);
}

/* --- the record ------------------------------------------------------------------------------ */

static void write_pair(struct json_writer *w, const char *key, const char *text)
{
    json_write_key(w, key);
    json_write_text(w, text);
}

static status write_record(struct buf *out, const struct spool_item *item)
{
    struct json_writer w = { .out = out, .indent = true };
    char nonce[17];

    id_nonce_text(nonce, item->lease.nonce);
    json_write_object(&w);
    json_write_key(&w, "onestep_spool");
    json_write_int(&w, 1);
    write_pair(&w, "job", item->lease.job);
    json_write_key(&w, "attempt");
    json_write_int(&w, item->lease.attempt);
    write_pair(&w, "lease", nonce);
    write_pair(&w, "store", item->store);
    write_pair(&w, "manifest_key", item->manifest_key);
    write_pair(&w, "manifest_sha256", item->manifest_sha256);
    write_pair(&w, "spec_hash", item->spec_hash);
    if (*item->put_url)
        write_pair(&w, "put_url", item->put_url);
    json_write_key(&w, "files");
    json_write_array(&w);
    for (int i = 0; i < item->file_count; i++) {
        const struct spool_file *f = &item->files[i];

        json_write_object(&w);
        write_pair(&w, "name", f->name);
        write_pair(&w, "type", f->type);
        write_pair(&w, "key", f->out.key);
        write_pair(&w, "url", f->out.url);
        json_write_key(&w, "bytes");
        json_write_int(&w, (int64_t)f->out.bytes);
        write_pair(&w, "sha256", f->out.sha256_hex);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_end(&w);
    return json_write_finish(&w);
}

status spool_keep(struct spool_item *item, const struct buf *manifest)
{
    struct buf record = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    char path[FILE_PATH_BYTES];
    uint8_t sha256[DIGEST_BYTES];
    status st = OK;

    item->bytes = manifest->len;
    for (int i = 0; i < item->file_count; i++)
        item->bytes += item->files[i].out.bytes;
    TRY(digest_sha256(manifest->data, manifest->len, sha256));
    digest_hex(sha256, item->manifest_sha256);
    TRY(spool_path(item, SPOOL_MANIFEST, path));
    TRY(file_write_atomic(path, manifest->data, manifest->len));
    TRY(write_record(&record, item));
    TRY(spool_path(item, RECORD, path));
    TRY(file_write_atomic(path, record.data, record.len));
out:
    buf_free(&record);
    return st;
}

status spool_manifest(const struct spool_item *item, struct buf *text)
{
    char path[FILE_PATH_BYTES], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    status st = OK;

    TRY(spool_path(item, SPOOL_MANIFEST, path));
    TRY(file_read(path, LIMIT_TEXT_FILE_BYTES, text));
    TRY(digest_sha256(text->data, text->len, sha256));
    if (strcmp(digest_hex(sha256, hex), item->manifest_sha256) != 0)
        TRY(FAIL(ERR_CORRUPT, "%s: it changed on disk", path));
out:
    return st;
}

/* --- reading --------------------------------------------------------------------------------- */

static status copy_text(const struct json_value *v, const char *key, char *dst, size_t room)
{
    const char *text;
    status st = json_get_text(v, key, &text);

    if (st != OK)
        return st;
    if (!*text || strlen(text) >= room)
        return FAIL(ERR_CORRUPT, "%.80s: %s wants 1 to %zu bytes", v->path, key, room - 1);
    memcpy(dst, text, strlen(text) + 1);
    return OK;
}

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

static status read_file(struct spool_file *f, const struct json_value *v)
{
    int64_t bytes = 0;
    status st = OK;

    TRY(copy_text(v, "name", f->name, sizeof(f->name)));
    TRY(copy_text(v, "type", f->type, sizeof(f->type)));
    TRY(copy_text(v, "key", f->out.key, sizeof(f->out.key)));
    TRY(copy_text(v, "url", f->out.url, sizeof(f->out.url)));
    TRY(copy_text(v, "sha256", f->out.sha256_hex, sizeof(f->out.sha256_hex)));
    TRY(json_get_int(v, "bytes", 1, INT64_MAX, &bytes));
    f->out.bytes = (uint64_t)bytes;
    if (f->name[0] == '.' || strchr(f->name, '/') || !is_hex(f->out.sha256_hex, 2 * DIGEST_BYTES))
        TRY(FAIL(ERR_CORRUPT, "%.80s: not the name and SHA-256 of a file", v->path));
    TRY(blob_check_key(f->out.key));
out:
    return st;
}

static status read_members(struct spool_item *item, const struct json_value *root)
{
    struct json_value files = json_find(root, "files");
    const char *put_url = "";
    char nonce[17];
    int64_t version;
    status st = OK;

    TRY(json_get_int(root, "onestep_spool", 1, 1, &version));
    TRY(copy_text(root, "job", item->lease.job, sizeof(item->lease.job)));
    TRY(json_get_int(root, "attempt", 0, INT64_MAX, &item->lease.attempt));
    TRY(copy_text(root, "lease", nonce, sizeof(nonce)));
    TRY(copy_text(root, "store", item->store, sizeof(item->store)));
    TRY(copy_text(root, "manifest_key", item->manifest_key, sizeof(item->manifest_key)));
    TRY(copy_text(root, "manifest_sha256", item->manifest_sha256, sizeof(item->manifest_sha256)));
    TRY(copy_text(root, "spec_hash", item->spec_hash, sizeof(item->spec_hash)));
    TRY(json_opt_text(root, "put_url", &put_url));
    if (strlen(put_url) >= sizeof(item->put_url))
        TRY(FAIL(ERR_CORRUPT, "%.80s: put_url has %zu bytes", root->path, strlen(put_url)));
    memcpy(item->put_url, put_url, strlen(put_url) + 1);
    if (!is_hex(nonce, 16))
        TRY(FAIL(ERR_CORRUPT, "%.80s: lease is not 16 hexadecimal digits", root->path));
    item->lease.nonce = strtoull(nonce, NULL, 16);
    TRY(json_want_array(&files, 1, SPOOL_FILES_MAX));
    for (size_t i = 0; i < json_count(&files); i++) {
        struct json_value v = json_at(&files, i);

        TRY(read_file(&item->files[i], &v));
        item->bytes += item->files[i].out.bytes;
        item->file_count++;
    }
out:
    return st;
}

static status read_item(struct spool_item **item, const char *dir)
{
    struct spool_item *p = calloc(1, sizeof(*p));
    struct json document = { 0 };
    struct json_value root;
    char path[FILE_PATH_BYTES];
    status st = OK;

    *item = NULL;
    if (!p)
        return FAIL(ERR_NOMEM, "no memory for another result");
    snprintf(p->dir, sizeof(p->dir), "%s", dir);
    TRY(spool_path(p, RECORD, path));
    TRY(json_open_file(&document, path));
    root = json_root(&document);
    TRY(read_members(p, &root));
    *item = p;
    p = NULL;
out:
    json_free(&document);
    free(p);
    return st;
}

/* --- folders of items ------------------------------------------------------------------------ */

/* Is name in dir a folder with a record? Then its path is in path. */
static bool is_item(const char *dir, const char *name, char path[FILE_PATH_BYTES])
{
    char record[FILE_PATH_BYTES];
    struct stat info;

    return name[0] != '.' && file_join(path, FILE_PATH_BYTES, dir, name) == OK &&
           lstat(path, &info) == 0 && S_ISDIR(info.st_mode) &&
           file_join(record, sizeof(record), path, RECORD) == OK && file_exists(record);
}

status spool_find(struct spool_item **list, const char *work_dir)
{
    char path[FILE_PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(work_dir);
    status st = OK;

    *list = NULL;
    if (!dir)
        return file_errno(errno, work_dir);
    while (st != ERR_NOMEM && (entry = readdir(dir))) {
        struct spool_item *item = NULL;

        if (!is_item(work_dir, entry->d_name, path))
            continue;
        st = read_item(&item, path);
        if (st != OK) {
            log_error("spool.damaged", "error=\"%s\"", status_message());
            continue;
        }
        item->next = *list;
        *list = item;
    }
    closedir(dir);
    return st == ERR_NOMEM ? st : OK;
}

int spool_move(const char *from, const char *to)
{
    char path[FILE_PATH_BYTES], target[FILE_PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(from);
    int left = 0;

    while (dir && (entry = readdir(dir))) {
        if (!is_item(from, entry->d_name, path))
            continue;
        if (file_join(target, sizeof(target), to, entry->d_name) == OK &&
            rename(path, target) == 0) {
            log_info("spool.taken", "path=%s", target);
            continue;
        }
        log_error("spool.stuck", "path=%s error=\"%s\"", path, strerror(errno));
        left++;
    }
    if (dir)
        closedir(dir);
    return left;
}
