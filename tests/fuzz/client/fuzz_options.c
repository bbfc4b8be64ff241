/* A command line of the client, one word a line, the command first: what is accepted has as many
 * words as the command takes, all of them from the line. */
#include <stdlib.h>
#include <string.h>

#include "client/options.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 24

/* Is the word among those that were given? */
static bool is_given(char *const *given, int count, const char *word)
{
    for (int i = 0; i < count; i++) {
        if (given[i] == word)
            return true;
    }
    return false;
}

static void expect_words(const struct command_line *line, char *const *given, int count)
{
    const struct command *c = line->command;

    if (line->wants_help)
        return;
    CHECK(line->word_count >= c->words_min && line->word_count <= count);
    CHECK(c->words != COMMAND_NO_WORDS || line->word_count == 0);
    CHECK(!c->words_max || line->word_count <= c->words_max);
    for (int i = 0; i < line->word_count; i++)
        CHECK(is_given(given, count, line->words[i]));
}

FUZZ(options, 2 << 10)
{
    char *text = fuzz_text(bytes, len), *next = NULL, *word = strtok_r(text, "\n", &next);
    const struct command *command = word ? command_find(word) : NULL;
    char *argv[WORDS_MAX + 1] = { NULL }, *given[WORDS_MAX];
    struct command_line line;
    int argc = 0;

    /* --config opens a file. */
    while (word && argc < WORDS_MAX && !strstr(word, "-config")) {
        argv[argc++] = word;
        word = strtok_r(NULL, "\n", &next);
    }
    memcpy(given, argv, sizeof(given));
    if (command && argc > 0 && options_parse(&line, command, argc, argv) == OK)
        expect_words(&line, given, argc);
    else if (!command && given[0])
        CHECK(command_fail_unknown(given[0]) == ERR_BADARG);
    free(text);
}
