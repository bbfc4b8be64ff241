#!/bin/sh
# Who may include whom, and which file may include which outside library.
# Usage: check_layers.sh [ROOT]
# Every #include "..." is a path from the root of the project. The table is the one of the Makefile.
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}" || exit 2

sources=$("$here/sources.sh" .)
[ -n "$sources" ] || { echo "layers: no source files below $PWD"; exit 1; }

# shellcheck disable=SC2086
grep -Hn '^[[:space:]]*#[[:space:]]*include' $sources /dev/null | awk '
BEGIN {
    # folder: the folders it may include, besides itself
    uses["common/base"]    = " "
    uses["proto"]          = " common/base "
    uses["common"]         = " proto common/base "
    uses["kernels"]        = " common/base "
    uses["kernels/ref"]    = " kernels common/base "
    uses["kernels/cpu"]    = " kernels kernels/ref common/base "
    uses["kernels/op"]     = " kernels kernels/ref kernels/cpu common/base "
    uses["worker/sampler"] = " common/base "
    uses["worker/model"]   = " kernels/op kernels common/base "
    uses["worker"]         = " worker/model worker/sampler kernels/op kernels common proto " \
                             "common/base "
    uses["broker"]         = " common proto common/base "
    uses["client"]         = " common proto common/base "

    # outside header, and the only place that may include it (a prefix of the path)
    fence("^zmq",             "common/bus")
    fence("^hiredis",         "common/redis.c")
    fence("^curl/",           "common/http.c")
    fence("^microhttpd",      "common/exporter.c")
    fence("^yaml",            "common/config.c")
    fence("^lib(av|sw)",      "common/media")
    fence("^lcms2",           "common/media")
    fence("^openssl/(ssl|err)", "common/tls.c")
    fence("^openssl/[^se]",   "common/digest.c")
    fence("^jansson",         "common/base/json.c")
    fence("^protobuf-c/",     "proto/")
    fence("^(oneapi/)?dnnl",  "kernels/cpu/")
}
function fence(pattern, home) { pattern_of[++fences] = pattern; home_of[fences] = home }
function layer_of(path,    folder) {
    folder = path
    while (sub("/[^/]*$", "", folder))
        if (folder in uses) return folder
    sub("/.*", "", path)
    return path
}
function folder_of(path) { sub("/[^/]*$", "", path); return path }
function refuse(why) { print "layers: " file ":" line ": " why; bad = 1 }
function exists(path,    text, found) {
    found = (getline text < path) >= 0
    close(path)
    return found
}
function check_own(path,    from, to) {
    if (path ~ /\.pb-c\.h$/) {
        if (file !~ /^(proto|tests\/unit\/proto)\//)
            refuse(path " is generated and stays inside proto/; use the structs of proto/codec.h")
        return
    }
    if (!exists(path)) {
        refuse("\"" path "\" does not exist; write the path from the root of the project")
        return
    }
    if (path ~ /\.c$/)
        refuse(path " is not a header; move what you need to a module that has one")
    if (path ~ /_priv\.h$/ && folder_of(path) != folder_of(file))
        refuse(path " is private to its folder; use the public header")
    from = layer_of(file); to = layer_of(path)
    if (from == "tests" || from == to || index(uses[from], " " to " ")) return
    refuse(from " may not include " path "; it may use:" uses[from] \
           "- move the code down or the call up")
}
function check_outside(name,    i) {
    if (file ~ /^tests\//) return
    for (i = 1; i <= fences; i++)
        if (name ~ pattern_of[i] && index(file, home_of[i]) != 1)
            refuse("<" name "> belongs to " home_of[i] "; call that module instead")
}
{
    split($0, part, ":"); file = part[1]; line = part[2]
    name = $0
    sub(/^[^"<]*["<]/, "", name); sub(/[">].*/, "", name)
    if ($0 ~ /include[ \t]*"/) check_own(name); else check_outside(name)
}
END { exit bad }
'
