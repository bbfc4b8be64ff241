#!/bin/sh
# Functions of at most 70 lines and 6 parameters, files of at most 1000 lines, lines of at most 100
# columns. Usage: check_size.sh [ROOT]
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}" || exit 2

sources=$("$here/sources.sh" .)
[ -n "$sources" ] || { echo "size: no source files below $PWD"; exit 1; }
if ! command -v ctags >/dev/null; then
    echo "size: ctags is missing; run: ops/setup/deps.sh --with-lint"
    exit 1
fi

# shellcheck disable=SC2086
awk '
function refuse(why) { print "size: " FILENAME ":" FNR ": " why; bad = 1 }
length($0) > 100 { refuse(length($0) " columns, limit 100: break the line") }
FNR == 1001 { refuse("more than 1000 lines: split it by noun") }
END { exit bad }
' $sources
lines_bad=$?

# Tag lines: name, file, /pattern/;" kind, then fields. Fields are found by their names.
# shellcheck disable=SC2086
ctags -f - --languages=C --langmap=C:.c.h --kinds-C=f --fields=+neS --sort=no $sources |
awk -F '\t' '
function parameters(signature,    i, c, depth, count) {
    if (signature ~ /^\((void)?\)$/) return 0
    count = 1
    for (i = 2; i < length(signature); i++) {
        c = substr(signature, i, 1)
        if (c == "(") depth++
        else if (c == ")") depth--
        else if (c == "," && depth == 0) count++
    }
    return count
}
function refuse(why) { print "size: " $2 ":" first ": " $1 " " why; bad = 1 }
{
    first = last = 0; signature = "()"
    for (i = 4; i <= NF; i++) {
        if ($i ~ /^line:/) first = substr($i, 6)
        if ($i ~ /^end:/) last = substr($i, 5)
        if ($i ~ /^signature:/) signature = substr($i, 11)
    }
    if (last - first + 1 > 70)
        refuse("has " last - first + 1 " lines, limit 70: split it")
    # Signatures of others: a callback of libmicrohttpd, a library that is pretended.
    if (parameters(signature) > 6 && signature !~ /MHD_Connection/ && $2 !~ /\/preload\//)
        refuse("has " parameters(signature) " parameters, limit 6: pass a struct of arguments")
}
END { exit bad }
' || exit 1
exit $lines_bad
