#!/bin/sh
# A header is the manual of its module: it says what it is in its first line, and every function,
# struct, enum and union it declares has a comment right above it.
# Usage: check_headers.sh [ROOT]
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}" || exit 2

headers=$("$here/sources.sh" . | grep '\.h$')
[ -n "$headers" ] || { echo "headers: no header below $PWD"; exit 1; }

# shellcheck disable=SC2086
awk '
function refuse(line, why) { print "headers: " FILENAME ":" line ": " why; bad = 1 }
function first_line(    name) {
    name = FILENAME
    sub(/.*\//, "", name)
    if (index($0, "/* " name " - ") != 1)
        refuse(1, "the first line must be: /* " name " - what it is.")
}
# Cut comments out of the line; in_comment carries over. ends_comment: one closed on this line.
function strip(text,    out, at) {
    out = ""
    ends_comment = 0
    while (text != "") {
        if (in_comment) {
            at = index(text, "*/")
            if (!at) return out
            text = substr(text, at + 2); in_comment = 0; ends_comment = 1
        } else {
            at = index(text, "/*")
            if (!at) return out text
            out = out substr(text, 1, at - 1); text = substr(text, at + 2); in_comment = 1
        }
    }
    return out
}
# What a declaration declares, "" when nothing that needs a comment. The struct that the header is
# named after is described by the header'\''s own comment.
function declared_name(    name, stem) {
    name = declaration
    stem = FILENAME
    sub(/.*\//, "", stem); sub(/\.h$/, "", stem)
    if (name ~ /^(struct|enum|union) [a-z0-9_]+ *\{/) {
        sub(/ *\{.*/, "", name)
        return name == "struct " stem ? "" : name
    }
    if (name ~ /^typedef/) {
        sub(/\)\(.*/, "", name); sub(/[;{].*/, "", name); sub(/.*[ *(]/, "", name)
        return "type " name
    }
    if (name ~ /^((struct|enum|union) [a-z0-9_]+;|_Static_assert|extern "C")/) return ""
    if (name !~ /[a-z0-9_] *\(/) return ""
    sub(/ *\(.*/, "", name); sub(/.*[ *]/, "", name)
    return name
}
function end_declaration(    name) {
    name = declared_name()
    if (name != "" && !has_comment)
        refuse(start, name " has no comment right above it: say what it is, units, owner, errors")
    declaration = ""
    # A comment covers the declarations below it, up to the next blank line.
    after_comment = has_comment
}
FNR == 1 {
    in_comment = depth = in_macro = after_comment = 0
    declaration = ""
    first_line()
}
{
    code = strip($0)
    if (in_macro || code ~ /^[ \t]*#/) {
        in_macro = code ~ /\\$/
        after_comment = 0
        next
    }
    if (code ~ /^[ \t]*$/) {
        # A comment documents what starts on the next line; a blank line cuts the tie.
        if (ends_comment) after_comment = 1
        else if (!in_comment) after_comment = 0
        next
    }
    if (declaration == "" && depth == 0) { start = FNR; has_comment = after_comment }
    after_comment = 0
    sub(/^[ \t]+/, "", code)
    declaration = declaration (declaration == "" ? "" : " ") code
    opened = gsub(/\{/, "{", code); closed = gsub(/\}/, "}", code)
    depth += opened - closed
    if (depth == 0 && code ~ /[;}][ \t]*$/) end_declaration()
}
END { exit bad }
' $headers
bad=$?

for header in $headers; do
    guard=ONESTEP_$(printf %s "$header" | tr 'a-z/.-' 'A-Z___')
    if ! grep -q "^#ifndef $guard\$" "$header" || ! grep -q "^#define $guard\$" "$header"; then
        echo "headers: $header:1: the include guard must be $guard"
        bad=1
    fi
done
exit $bad
