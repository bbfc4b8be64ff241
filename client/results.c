#include "client/results.h"

#include <stdio.h>
#include <string.h>

#include "common/blob.h"
#include "common/url.h"

/* The URL of the folder that a file:// object is in, and its name as a key. */
static status split_file(const struct url *u, char *folder_url, size_t room, const char **key)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const char *slash;
    status st = OK;

    TRY(url_decode_path(u, path, sizeof(path)));
    /* Opening the store would make the folder: a result that is gone must not. */
    if (!file_exists(path))
        TRY(FAIL(ERR_NOTFOUND,
                 "%s: no such file; results in file:// are fetched on a machine that "
                 "sees the worker's storage",
                 path));
    TRY(file_parent(folder, sizeof(folder), path));
    TRY(url_from_path(folder, folder_url, room));
    slash = strrchr(u->path, '/');
    *key = slash ? slash + 1 : u->path;
out:
    return st;
}

status results_copy(const struct options *o, const char *url, const char *path)
{
    struct blob_config config = { .ca_file = *o->ca_file ? o->ca_file : NULL };
    struct blob blob = { 0 };
    char store[BLOB_URL_ROOM];
    const char *key = NULL;
    struct url u;
    status st = OK;

    TRY(url_parse(&u, url));
    if (u.scheme == URL_FILE) {
        TRY(split_file(&u, store, sizeof(store), &key));
    } else if (u.scheme == URL_S3) {
        snprintf(store, sizeof(store), "s3://%s", u.host);
        key = u.path + 1; /* keys of results need no escapes */
    } else {
        TRY(FAIL(ERR_BADARG, "%s: results are fetched from file:// and s3:// only", url));
    }
    options_s3(o, &config.s3);
    config.url = store;
    TRY(blob_open(&blob, &config));
    TRY(blob_get_to_file(&blob, key, path));
out:
    blob_close(&blob);
    return st;
}

static status read_sha256(const struct json_value *outputs, const char *name, char *hex)
{
    struct json_value output = json_find(outputs, name);
    const char *text;
    status st = OK;

    TRY(json_get_text(&output, "sha256", &text));
    if (strlen(text) != DIGEST_HEX_ROOM - 1)
        TRY(FAIL(ERR_CORRUPT, "%s: sha256 is not 64 hexadecimal digits", output.path));
    memcpy(hex, text, DIGEST_HEX_ROOM);
out:
    return st;
}

status results_read(struct results_manifest *m, const char *path)
{
    struct json_value root, outputs;
    int64_t version;
    status st = OK;

    memset(m, 0, sizeof(*m));
    TRY(json_open_file(&m->json, path));
    root = json_root(&m->json);
    TRY(json_get_int(&root, "onestep_manifest", 1, 1, &version));
    TRY(json_get_int(&root, "frames", 1, 1 << 20, &m->frames));
    TRY(json_get_int(&root, "width", 1, 1 << 20, &m->width_px));
    TRY(json_get_int(&root, "height", 1, 1 << 20, &m->height_px));
    TRY(json_get_double(&root, "total_seconds", 0, 1e9, &m->total_seconds));
    outputs = json_find(&root, "outputs");
    TRY(read_sha256(&outputs, "video", m->video_sha256));
    TRY(read_sha256(&outputs, "poster", m->poster_sha256));
    return OK;
out:
    results_free(m);
    return st;
}

void results_free(struct results_manifest *m)
{
    json_free(&m->json);
    memset(m, 0, sizeof(*m));
}

status results_check(const char *path, const char *sha256_hex)
{
    uint8_t sha256[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM];
    status st = OK;

    TRY(digest_file(path, sha256, NULL));
    if (strcmp(digest_hex(sha256, hex), sha256_hex) == 0)
        return OK;
    TRY(file_remove(path));
    TRY(FAIL(ERR_CORRUPT,
             "%s: its SHA-256 is not the manifest's, so it was removed; fetch it again", path));
out:
    return st;
}

static void write_seed(struct json_writer *w, const struct json_value *root)
{
    struct json_value parameters = json_find(root, "parameters");
    struct json_value seed = json_find(&parameters, "seed");
    const char *text;
    int64_t value;

    json_write_key(w, "seed");
    if (json_kind(&seed) == JSON_KIND_INT && json_to_int(&seed, 0, INT64_MAX, &value) == OK)
        json_write_int(w, value);
    else if (json_kind(&seed) == JSON_KIND_TEXT && json_to_text(&seed, &text) == OK)
        json_write_text(w, text);
    else
        json_write_null(w);
}

void results_write(struct json_writer *w, const struct results_manifest *m)
{
    struct json_value root = json_root(&m->json);
    struct json_value stages = json_find(&root, "stage_seconds");
    struct json_member stage = { 0 };

    json_write_key(w, "frames");
    json_write_int(w, m->frames);
    json_write_key(w, "width");
    json_write_int(w, m->width_px);
    json_write_key(w, "height");
    json_write_int(w, m->height_px);
    write_seed(w, &root);
    json_write_key(w, "stage_seconds");
    json_write_object(w);
    while (json_next(&stages, &stage)) {
        double seconds;

        if (json_to_double(&stage.value, 0, 1e9, &seconds) != OK)
            continue;
        json_write_key(w, stage.key);
        json_write_double(w, seconds);
    }
    json_write_end(w);
}
