#include "common/xml.h"

#include <stdio.h>
#include <string.h>

#include "tests/tool/test.h"

static status on_end(void *self, const char *path, const char *text)
{
    char *out = self;

    snprintf(out + strlen(out), 900 - strlen(out), "%s=%s;", path, text ? text : "NULL");
    return OK;
}

TEST(storage_xml_answers_are_read)
{
    static const struct {
        const char *xml, *walk;
    } rows[] = {
        { "<a/>", "a=;" },
        { "<?xml version=\"1.0\"?>\n<a x='>'><b>t</b><c y=\"/\"/></a>\n", "a/b=t;a/c=;a=NULL;" },
        { "<a>&lt;&amp;&quot;&#65;&#x20AC;</a>", "a=<&\"A\xe2\x82\xac;" },
        { "<a><!-- <b> --><b> x </b></a>", "a/b= x ;a=NULL;" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[1000] = "";

        EXPECT_OK(xml_walk(rows[i].xml, strlen(rows[i].xml), on_end, out));
        EXPECT_TEXT(out, rows[i].walk);
    }
}

TEST(storage_xml_that_is_none_is_refused)
{
    static const char *const bad[] = {
        "",
        "text",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&x;</a>",
        "<a>&#0;</a>",
        "<a>&#xd800;</a>",
        "<!DOCTYPE a><a/>",
        "<a b=\"></a>",
        "<a",
        "<a><b></a></b>",
        "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>",
        "<>x</>",
        "<a>&#;</a>",
    };
    char out[1000] = "", text[16];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_STATUS(xml_walk(bad[i], strlen(bad[i]), on_end, out), ERR_CORRUPT);
    EXPECT_TEXT(xml_find("<E><Code>X&gt;</Code><Code>Y</Code></E>", 39, "E/Code", text, 16), "X>");
    EXPECT_TEXT(xml_find("<E><Code>long text here</Code></E>", 34, "E/Code", text, 5), "long");
    EXPECT_TEXT(xml_find("<E><Code>X</Code>", 17, "E/Code", text, 16), "");
}
