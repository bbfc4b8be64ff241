#include "common/xml.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A document being read. */
struct walk {
    const char *at, *end;
    char path[XML_PATH_ROOM];    /* of open elements, joined by "/" */
    size_t start[XML_DEPTH_MAX]; /* of each one's name in path */
    bool has_child[XML_DEPTH_MAX];
    int depth;
    bool is_done; /* the outermost element has ended */
    char text[XML_TEXT_ROOM];
    size_t text_len;
    xml_element on_end;
    void *self;
};

static status corrupt(const char *why)
{
    return FAIL(ERR_CORRUPT, "an XML answer with %s", why);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool starts(const struct walk *w, const char *text)
{
    size_t len = strlen(text);

    return (size_t)(w->end - w->at) >= len && memcmp(w->at, text, len) == 0;
}

/* Skip to behind text. */
static status skip_past(struct walk *w, const char *text)
{
    const char *found = memmem(w->at, (size_t)(w->end - w->at), text, strlen(text));

    if (!found)
        return corrupt("no end");
    w->at = found + strlen(text);
    return OK;
}

static status add_char(struct walk *w, char c)
{
    if (w->text_len + 1 >= sizeof(w->text))
        return corrupt("a text that is too long");
    w->text[w->text_len++] = c;
    return OK;
}

/* Append a code point as UTF-8. */
static status add_point(struct walk *w, unsigned long point)
{
    char utf8[4];
    int len = 0;
    status st = OK;

    if (point == 0 || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
        return corrupt("a character that does not exist");
    if (point < 0x80) {
        utf8[len++] = (char)point;
    } else if (point < 0x800) {
        utf8[len++] = (char)(0xc0 | point >> 6);
        utf8[len++] = (char)(0x80 | (point & 63));
    } else if (point < 0x10000) {
        utf8[len++] = (char)(0xe0 | point >> 12);
        utf8[len++] = (char)(0x80 | (point >> 6 & 63));
        utf8[len++] = (char)(0x80 | (point & 63));
    } else {
        utf8[len++] = (char)(0xf0 | point >> 18);
        utf8[len++] = (char)(0x80 | (point >> 12 & 63));
        utf8[len++] = (char)(0x80 | (point >> 6 & 63));
        utf8[len++] = (char)(0x80 | (point & 63));
    }
    for (int i = 0; i < len && st == OK; i++)
        st = add_char(w, utf8[i]);
    return st;
}

/* At "&". */
static status read_entity(struct walk *w)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {
        { "&lt;", '<' }, { "&gt;", '>' }, { "&amp;", '&' }, { "&quot;", '"' }, { "&apos;", '\'' },
    };
    char digits[16];
    const char *semicolon = memchr(w->at, ';', (size_t)(w->end - w->at));
    bool is_hex;
    char *rest;
    unsigned long point;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!starts(w, known[i].name))
            continue;
        w->at += strlen(known[i].name);
        return add_char(w, known[i].c);
    }
    if (!starts(w, "&#") || !semicolon || semicolon - w->at > 12)
        return corrupt("an unknown entity");
    snprintf(digits, sizeof(digits), "%.*s", (int)(semicolon - w->at - 2), w->at + 2);
    is_hex = digits[0] == 'x';
    if (!digits[is_hex] ||
        digits[is_hex + strspn(digits + is_hex, is_hex ? "0123456789abcdefABCDEF" : "0123456789")])
        return corrupt("an unknown entity");
    point = strtoul(digits + is_hex, &rest, is_hex ? 16 : 10);
    w->at = semicolon + 1;
    return add_point(w, point);
}

/* The innermost element ends here. */
static status leave(struct walk *w)
{
    const char *text;
    status st;

    w->text[w->text_len] = '\0';
    text = w->has_child[w->depth - 1] ? NULL : w->text;
    st = w->on_end(w->self, w->path, text);
    w->depth--;
    w->path[w->depth ? w->start[w->depth] - 1 : 0] = '\0';
    w->text_len = 0;
    w->is_done = w->depth == 0;
    return st;
}

/* At "</": the tag that must close the innermost element. */
static status read_end_tag(struct walk *w)
{
    const char *name = w->depth ? w->path + w->start[w->depth - 1] : "";
    size_t len = strlen(name);

    w->at += 2;
    if (!len || (size_t)(w->end - w->at) <= len || memcmp(w->at, name, len) != 0)
        return corrupt("a tag that closes another");
    w->at += len;
    while (w->at < w->end && is_blank(*w->at))
        w->at++;
    if (w->at == w->end || *w->at != '>')
        return corrupt("a tag without its end");
    w->at++;
    return leave(w);
}

/* Skip attributes up to the end of a tag; *is_empty: it ends with "/>". */
static status skip_attributes(struct walk *w, bool *is_empty)
{
    char quote = '\0';

    for (; w->at < w->end; w->at++) {
        if (quote && *w->at == quote)
            quote = '\0';
        else if (!quote && (*w->at == '"' || *w->at == '\''))
            quote = *w->at;
        else if (!quote && *w->at == '<')
            break;
        else if (!quote && *w->at == '>') {
            *is_empty = w->at[-1] == '/';
            w->at++;
            return OK;
        }
    }
    return corrupt("a tag without its end");
}

/* At "<" of an element. */
static status read_start_tag(struct walk *w)
{
    size_t used = strlen(w->path), len = 0;
    bool is_empty = false;
    status st;

    w->at++;
    while (w->at + len < w->end && !is_blank(w->at[len]) && w->at[len] != '>' && w->at[len] != '/')
        len++;
    if (len == 0 || len > 64 || memchr(w->at, '\0', len) || memchr(w->at, '<', len) ||
        memchr(w->at, '&', len))
        return corrupt("a strange name");
    if (w->depth == XML_DEPTH_MAX || used + len + 2 > sizeof(w->path) || w->is_done)
        return corrupt(w->is_done ? "more than one document" : "too many levels");
    if (w->depth) {
        w->has_child[w->depth - 1] = true;
        w->path[used++] = '/';
    }
    w->start[w->depth] = used;
    w->has_child[w->depth++] = false;
    memcpy(w->path + used, w->at, len);
    w->path[used + len] = '\0';
    w->text_len = 0;
    w->at += len;
    st = skip_attributes(w, &is_empty);
    return st == OK && is_empty ? leave(w) : st;
}

static status step(struct walk *w)
{
    if (*w->at == '&' && w->depth)
        return read_entity(w);
    if (*w->at != '<') {
        if (!w->depth && !is_blank(*w->at))
            return corrupt("text outside its elements");
        if (*w->at == '\0')
            return corrupt("a NUL");
        return w->depth ? add_char(w, *w->at++) : (w->at++, OK);
    }
    if (starts(w, "<?"))
        return skip_past(w, "?>");
    if (starts(w, "<!--"))
        return skip_past(w, "-->");
    if (starts(w, "<!"))
        return corrupt("a document type");
    if (starts(w, "</"))
        return read_end_tag(w);
    return read_start_tag(w);
}

status xml_walk(const char *bytes, size_t len, xml_element on_end, void *self)
{
    struct walk *w = calloc(1, sizeof(*w));
    status st = OK;

    if (!w)
        return FAIL(ERR_NOMEM, "no memory for an XML answer");
    w->at = bytes;
    w->end = bytes + len;
    w->on_end = on_end;
    w->self = self;
    while (st == OK && w->at < w->end)
        st = step(w);
    if (st == OK && !w->is_done)
        st = corrupt("no end");
    free(w);
    return st;
}

/* A text that is looked for. */
struct wanted {
    const char *path;
    char *dst;
    size_t room;
    bool is_found;
};

static status on_found(void *self, const char *path, const char *text)
{
    struct wanted *w = self;

    if (!w->is_found && text && strcmp(path, w->path) == 0) {
        snprintf(w->dst, w->room, "%s", text);
        w->is_found = true;
    }
    return OK;
}

const char *xml_find(const char *bytes, size_t len, const char *path, char *dst, size_t room)
{
    struct wanted w = { path, dst, room, false };

    dst[0] = '\0';
    if (len == 0 || xml_walk(bytes, len, on_found, &w) != OK)
        dst[0] = '\0';
    return dst;
}
