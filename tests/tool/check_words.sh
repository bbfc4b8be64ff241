#!/bin/sh
# Calls that the project does without. Usage: check_words.sh [ROOT]
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}" || exit 2

sources=$("$here/sources.sh" .)
[ -n "$sources" ] || { echo "words: no source files below $PWD"; exit 1; }
bad=0

# ban PATTERN EXCEPT WHY: a line of code that matches PATTERN, in a file that does not match EXCEPT.
ban() {
    # shellcheck disable=SC2086
    hits=$(grep -HnE "(^|[^a-zA-Z0-9_.>\"])($1)" $sources /dev/null |
        grep -vE '^[^:]*:[0-9]*:[[:space:]]*(/?\*|//)' | grep -vE "^($2):")
    [ -n "$hits" ] || return
    printf '%s\n' "$hits" | sed "s|^\([^:]*:[0-9]*\):.*|words: \1: $3|"
    bad=1
}

ban '(secure_)?getenv *\(|environ\b' 'common/config\.c' \
    'only common/config.c reads the environment; make it a config key'
ban 'gets *\(|strcpy *\(|strcat *\(|v?sprintf *\(|strtok *\(' 'tests/.*' \
    'no bound on what is written; use snprintf or struct buf'
ban 'u?sleep *\(|(clock_)?nanosleep *\(' 'common/base/clock\.c' \
    'waiting is for a condition with a deadline (poll, cond, clock_wait_for), not for a while'
ban 'alloca *\(' 'none' 'a stack without a ceiling; use an arena'
ban 'goto +([^o]|o[^u]|ou[^t]|out[^;])' 'none' 'the only label is out:'
exit $bad
