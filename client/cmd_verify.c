/* `onestep verify`: are a result's files, and the photograph it was made from, still what its
 * manifest says? Nothing but files of this machine is read. */
#include <stdio.h>
#include <string.h>

#include "client/cmd.h"
#include "client/output.h"
#include "common/base/file.h"
#include "common/blob.h"
#include "common/digest.h"
#include "common/url.h"

/* What became of one file. */
enum verdict { VERIFY_OK = 0, VERIFY_CHANGED, VERIFY_ABSENT };

static const char *const verdict_names[] = { "ok", "changed", "absent" };

/* One manifest under examination. */
struct verification {
    char path[FILE_PATH_BYTES]; /* of the manifest */
    struct json json;
    struct json_value root;
    struct json_writer w; /* --json */
    struct buf text;
    bool as_json;
    status worst; /* of its files */
};

static status replace_ending(const char *path, const char *ending, char dst[FILE_PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(path, '.');
    int stem = dot && (!slash || dot > slash) ? (int)(dot - path) : (int)strlen(path);

    if (snprintf(dst, FILE_PATH_BYTES, "%.*s%s", stem, path, ending) >= FILE_PATH_BYTES)
        return FAIL(ERR_BADARG, "%.80s...: too long a path", path);
    return OK;
}

/* The manifest that belongs to the file the user named: that file itself, the .json beside it (as
 * `onestep fetch` names them), or manifest.json one folder up (as the store has them). */
static status find_manifest(const char *named, char path[FILE_PATH_BYTES])
{
    char folder[FILE_PATH_BYTES], above[FILE_PATH_BYTES];
    const char *dot = strrchr(named, '.');
    status st = OK;

    if (!file_exists(named))
        return FAIL(ERR_NOTFOUND, "%s: no such file", named);
    if (dot && strcmp(dot, ".json") == 0)
        return file_join(path, FILE_PATH_BYTES, "", named);
    TRY(replace_ending(named, ".json", path));
    if (file_exists(path))
        return OK;
    TRY(file_parent(folder, sizeof(folder), named));
    TRY(file_join(path, FILE_PATH_BYTES, folder, "manifest.json"));
    if (file_exists(path))
        return OK;
    TRY(file_parent(above, sizeof(above), folder));
    TRY(file_join(path, FILE_PATH_BYTES, above, "manifest.json"));
    if (!file_exists(path))
        TRY(FAIL(ERR_NOTFOUND,
                 "%s: its manifest is neither beside it nor one folder up; name the "
                 "manifest itself",
                 named));
out:
    return st;
}

/* Where an output of the manifest lies: beside it under its name, or as the store has it. */
static status find_output(const struct verification *v, const char *key, char path[FILE_PATH_BYTES])
{
    char folder[FILE_PATH_BYTES];
    const char *last = strrchr(key, '/');
    const char *ending = strrchr(key, '.');
    status st = OK;

    TRY(blob_check_key(key));
    TRY(replace_ending(v->path, ending ? ending : "", path));
    if (file_exists(path))
        return OK;
    TRY(file_parent(folder, sizeof(folder), v->path));
    /* <job>/a<attempt>-<nonce>/<name> beside <job>/manifest.json */
    for (const char *c = key; last && c < last; c++) {
        if (*c == '/' && !memchr(c + 1, '/', (size_t)(last - c - 1)))
            key = c + 1;
    }
    TRY(file_join(path, FILE_PATH_BYTES, folder, key));
    if (!file_exists(path))
        TRY(file_join(path, FILE_PATH_BYTES, folder, last ? last + 1 : key));
out:
    return st;
}

static status report(struct verification *v, const char *name, const char *where,
                     enum verdict verdict)
{
    if (v->as_json) {
        json_write_object(&v->w);
        json_write_key(&v->w, "name");
        json_write_text(&v->w, name);
        json_write_key(&v->w, "path");
        json_write_text(&v->w, where);
        json_write_key(&v->w, "verdict");
        json_write_text(&v->w, verdict_names[verdict]);
        json_write_end(&v->w);
        return OK;
    }
    return buf_printf(&v->text, "%-8s %-7s %s\n", verdict_names[verdict], name, where);
}

static status check_file(struct verification *v, const char *name, const struct json_value *facts,
                         const char *path, bool must_exist)
{
    enum verdict verdict = VERIFY_ABSENT;
    const char *want;
    char hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    uint64_t bytes;
    int64_t bytes_wanted;
    status st = OK;

    TRY(json_get_text(facts, "sha256", &want));
    TRY(json_get_int(facts, "bytes", 0, INT64_MAX, &bytes_wanted));
    if (file_exists(path)) {
        TRY(digest_file(path, sha256, &bytes));
        verdict = bytes == (uint64_t)bytes_wanted && strcmp(digest_hex(sha256, hex), want) == 0
                      ? VERIFY_OK
                      : VERIFY_CHANGED;
    }
    if (verdict == VERIFY_CHANGED)
        v->worst = FAIL(ERR_CORRUPT, "%s: not the %s that %s speaks of", path, name, v->path);
    else if (verdict == VERIFY_ABSENT && must_exist && v->worst == OK)
        v->worst = FAIL(ERR_NOTFOUND, "%s: the %s is not there", path, name);
    TRY(report(v, name, path, verdict));
out:
    return st;
}

static status check_outputs(struct verification *v)
{
    struct json_value outputs = json_find(&v->root, "outputs");
    struct json_member output = { 0 };
    char path[FILE_PATH_BYTES];
    const char *key;
    status st = OK;

    TRY(json_want_object(&outputs));
    while (json_next(&outputs, &output)) {
        TRY(json_get_text(&output.value, "key", &key));
        TRY(find_output(v, key, path));
        TRY(check_file(v, output.key, &output.value, path, true));
    }
out:
    return st;
}

/* A photograph from elsewhere is not fetched to be looked at. */
static status check_input(struct verification *v)
{
    struct json_value input = json_find(&v->root, "input");
    char path[FILE_PATH_BYTES];
    const char *address;
    struct url u;
    status st = OK;

    TRY(json_get_text(&input, "url", &address));
    TRY(url_parse(&u, address));
    if (u.scheme == URL_FILE) {
        TRY(url_decode_path(&u, path, sizeof(path)));
        TRY(check_file(v, "input", &input, path, false));
    } else {
        TRY(report(v, "input", address, VERIFY_ABSENT));
    }
out:
    return st;
}

static status verify(struct verification *v, const char *named)
{
    int64_t version;
    status st = OK;

    TRY(find_manifest(named, v->path));
    TRY(json_open_file(&v->json, v->path));
    v->root = json_root(&v->json);
    TRY(json_get_int(&v->root, "onestep_manifest", 1, 1, &version));
    if (v->as_json) {
        v->w = (struct json_writer){ .out = &v->text };
        json_write_object(&v->w);
        json_write_key(&v->w, "manifest");
        json_write_text(&v->w, v->path);
        json_write_key(&v->w, "files");
        json_write_array(&v->w);
    }
    TRY(check_outputs(v));
    TRY(check_input(v));
    if (v->as_json) {
        json_write_end(&v->w);
        json_write_end(&v->w);
        TRY(output_json(&v->w, &v->text));
    } else {
        TRY(output_text(v->text.data));
    }
    st = v->worst;
out:
    return st;
}

status cmd_verify(const struct command_line *line)
{
    status st = OK, first = OK;

    for (int i = 0; i < line->word_count; i++) {
        struct verification v = { .as_json = line->options.json };

        status_clear();
        st = verify(&v, line->words[i]);
        if (st != OK)
            output_note("%s", status_message());
        if (first == OK)
            first = st;
        json_free(&v.json);
        buf_free(&v.text);
    }
    status_clear(); /* told already */
    return first;
}
