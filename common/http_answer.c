/* What an answer that is not 2xx means, and how it is told. */
#include <stdio.h>
#include <string.h>

#include "common/http.h"
#include "common/url.h"

#define SHOWN_ROOM 160

const char *http_method_name(enum http_method method)
{
    static const char *const names[] = {
        [HTTP_NONE] = "?",  [HTTP_GET] = "GET",   [HTTP_HEAD] = "HEAD",
        [HTTP_PUT] = "PUT", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE",
    };

    return names[method];
}

/* The text of <Message> in an S3 error, printable characters only; "" when there is none. */
static const char *server_words(const struct http_response *r, char *dst, size_t room)
{
    const char *text = r->body.data ? strstr(r->body.data, "<Message>") : NULL;
    size_t len = 0;

    dst[0] = '\0';
    if (!text)
        return dst;
    for (text += strlen("<Message>"); *text && *text != '<' && len + 1 < room; text++) {
        if (*text >= 0x20 && *text < 0x7f)
            dst[len++] = *text;
    }
    dst[len] = '\0';
    return dst;
}

static status code_status(int code)
{
    if (code / 100 == 2)
        return OK;
    if (code == 404 || code == 410)
        return ERR_NOTFOUND;
    if (code == 409 || code == 412)
        return ERR_CONFLICT;
    if (code == 507)
        return ERR_FULL;
    if (code == 408 || code == 429 || (code / 100 == 5 && code != 501))
        return ERR_UNAVAILABLE;
    return ERR_BADARG;
}

static const char *code_meaning(int code)
{
    switch (code) {
    case 400:
        return " (bad request)";
    case 401:
    case 403:
        return " (access denied; check the credentials and the address)";
    case 404:
    case 410:
        return " (nothing there)";
    case 501:
        return " (the server cannot do this)";
    default:
        return code / 100 == 3 ? " (a redirect, which is not followed here)" : "";
    }
}

status http_check(const struct http_request *q, const struct http_response *r)
{
    char shown[SHOWN_ROOM], words[SHOWN_ROOM];
    status st = code_status(r->code);

    if (st == OK)
        return OK;
    server_words(r, words, sizeof(words));
    return FAIL(st, "%s: %s answered %d%s%s%s", url_for_people(q->url, shown, sizeof(shown)),
                http_method_name(q->method), r->code, code_meaning(r->code), *words ? ": " : "",
                words);
}
