/* Answers of an object store: elements are reported with paths and texts within their limits, each
 * one after those inside it, the outermost last; or the answer is refused. */
#include <string.h>

#include "common/xml.h"
#include "tests/fuzz/fuzz.h"

/* What has been reported. */
struct seen {
    size_t count;
    char last[XML_PATH_ROOM];
};

static status on_end(void *self, const char *path, const char *text)
{
    struct seen *s = self;
    int depth = 1;

    CHECK(*path && strlen(path) < XML_PATH_ROOM);
    CHECK(!text || strlen(text) < XML_TEXT_ROOM);
    for (const char *c = path; *c; c++)
        depth += *c == '/';
    CHECK(depth <= XML_DEPTH_MAX);
    /* An element with elements in it comes right after one of them. */
    if (!text)
        CHECK(s->count > 0 && strncmp(s->last, path, strlen(path)) == 0 &&
              s->last[strlen(path)] == '/');
    s->count++;
    memcpy(s->last, path, strlen(path) + 1);
    return OK;
}

FUZZ_STORAGE(xml, 16 << 10)
{
    struct seen s = { 0 };
    char text[64];
    status st = xml_walk((const char *)bytes, len, on_end, &s);

    CHECK(st == OK || st == ERR_CORRUPT);
    CHECK(st != OK || (s.count > 0 && !strchr(s.last, '/')));
    xml_find((const char *)bytes, len, "Error/Code", text, sizeof(text));
    CHECK(st == OK || !*text);
}
