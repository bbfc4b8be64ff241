/* A command line, one word a line: what is accepted can be printed as YAML that loads back to the
 * same. Words that make a program print something or open a file end the input. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/common/settings.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 24

static bool is_setting(const char *word)
{
    static const char *const others[] = { "--config",       "--help", "--version",
                                          "--print-config", "--man",  "-h" };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strncmp(word, others[i], strlen(others[i])) == 0)
            return false;
    }
    /* A path may be any bytes, YAML is UTF-8. */
    for (; *word; word++) {
        if ((unsigned char)*word >= 0x80)
            return false;
    }
    return true;
}

FUZZ(flags, 2 << 10)
{
    char *text = fuzz_text(bytes, len), *next = NULL;
    char program_name[] = "fuzz", *argv[WORDS_MAX + 2] = { program_name };
    struct settings s = { 0 };
    bool is_done = false;
    int argc = 1;

    for (char *word = strtok_r(text, "\n", &next); word && argc <= WORDS_MAX && is_setting(word);
         word = strtok_r(NULL, "\n", &next))
        argv[argc++] = word;
    if (config_load(&s, &settings_program, argc, argv, &is_done) == OK)
        settings_expect_printable(&s);
    CHECK(!is_done);
    free(text);
}
