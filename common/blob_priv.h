/* blob_priv.h - what blob.c and its back ends share; nobody else includes it. A new back end is a
 * file blob_NAME.c, a row in blob.c, and its settings in struct blob_state. */
#ifndef ONESTEP_COMMON_BLOB_PRIV_H
#define ONESTEP_COMMON_BLOB_PRIV_H

#include "common/base/file.h"
#include "common/blob.h"
#include "common/http.h"

struct blob_state;

/* One back end. Keys are checked, files and bytes are not empty. cancel may be NULL.
 * Errors: as the functions of blob.h with these names. */
struct blob_backend {
    status (*open)(struct blob_state *s, const struct blob_config *c, const struct url *u);
    status (*put)(struct blob_state *s, const char *key, const struct mapping *content,
                  const char *content_type, const uint8_t sha256[DIGEST_BYTES]);
    status (*put_new)(struct blob_state *s, const char *key, const void *bytes, size_t len);
    status (*get)(struct blob_state *s, const char *key, struct buf *out);
    status (*get_to_file)(struct blob_state *s, const char *key, const char *path);
    status (*head)(struct blob_state *s, const char *key, struct blob_info *info);
    status (*url)(const struct blob_state *s, const char *key, char *dst, size_t room);
};

/* The settings of whichever back end it is. */
struct blob_state {
    const struct blob_backend *backend;
    const atomic_bool *cancel;     /* of the call under way */
    char root[FILE_PATH_BYTES];    /* file: the directory, absolute */
    struct http http;              /* s3 */
    struct s3 s3;                  /* s3 */
    char bucket[URL_HOST_ROOM];    /* s3 */
    char prefix[BLOB_KEY_MAX + 2]; /* s3: "" or ends with "/" */
    int timeout_ms;                /* s3 */
};

/* The back ends. */
extern const struct blob_backend blob_file, blob_s3;

/* The answer to a conditional PUT that found something there: OK when it is the same bytes.
 * where: for the sentence. Errors: ERR_CONFLICT; what get says. */
MUST_USE status blob_compare(struct blob_state *s, const char *key, const void *bytes, size_t len);

#endif
