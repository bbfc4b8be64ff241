#!/bin/bash
# Do the checks refuse what they must refuse? Each case is a small tree with one fault; a check that
# lets it pass, or that refuses the tree without a fault, fails here. Usage: test_lint.sh
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d "${TMPDIR:-/tmp}/onestep lint XXXXXX")
trap 'rm -rf "$tree"' EXIT
failed=0 count=0

# A tree without a fault.
plant() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{common/base,proto,kernels/{ref,cpu,op},worker/model,broker,client}
    cat >"$tree/common/base/pot.h" <<'C'
/* pot.h - something to include. */
#ifndef ONESTEP_COMMON_BASE_POT_H
#define ONESTEP_COMMON_BASE_POT_H

struct pot {
    int depth; /* centimetres */
};

/* What is in it. */
struct soup {
    int litres; /* whole ones */
};

/* Stir it. This function can't fail. */
void pot_stir(struct pot *p);
int pot_depth(const struct pot *p);

#endif
C
    cat >"$tree/common/base/pot.c" <<'C'
#include "common/base/pot.h"

void pot_stir(struct pot *p)
{
    p->depth++;
}
C
}

# append FILE: stdin goes to the end of the file.
append() { cat >>"$tree/$1"; }

# A function with $1 lines of body.
long_function() {
    printf 'int pot_long(void)\n{\n'
    seq 1 "$1" | sed 's/.*/    ;/'
    printf '}\n'
}

# expect NAME CHECK WORDS: check_CHECK.sh refuses the tree and says WORDS; no WORDS: it passes.
expect() {
    local text rc=0
    count=$((count + 1))
    text=$("$here/check_$2.sh" "$tree" 2>&1) || rc=$?
    if [ -z "$3" ] && { [ $rc -ne 0 ] || [ -n "$text" ]; }; then
        echo "lint test: $1: check_$2.sh refused a good tree: $text"
    elif [ -n "$3" ] && { [ $rc -ne 1 ] || [[ $text != *"$3"* ]]; }; then
        echo "lint test: $1: check_$2.sh ended with $rc and did not say \"$3\": $text"
    else
        plant
        return
    fi
    failed=1
    plant
}

plant
for check in layers headers size words format; do
    expect "no fault" $check ""
done

echo '#include "kernels/op/op.h"' | append common/base/pot.c
echo '/* op.h - x. */' | append kernels/op/op.h
expect "a call upwards" layers "common/base may not include kernels/op/op.h"
echo '#include "kernels/cpu/fast.h"' | append kernels/ref/slow.c
echo '/* fast.h - x. */' | append kernels/cpu/fast.h
expect "the reference looks sideways" layers "kernels/ref may not include kernels/cpu/fast.h"
echo '#include "broker/core.h"' | append client/submit.c
echo '/* core.h - x. */' | append broker/core.h
expect "a program looks into another" layers "client may not include broker/core.h"
echo '#include <zmq.h>' | append broker/loop.c
expect "an outside library in the wrong file" layers "<zmq.h> belongs to common/bus"
echo '# include <libavformat/avformat.h>' | append client/run.c
expect "an include with a space" layers "belongs to common/media"
echo '#include "pot.h"' | append common/base/pot.c
expect "a path that is not from the root" layers "does not exist"
echo '#include "common/base/pot.c"' | append client/run.c
expect "an included .c" layers "is not a header"
echo '/* base_priv.h - x. */' | append common/base/base_priv.h
echo '#include "common/base/base_priv.h"' | append client/run.c
expect "a private header elsewhere" layers "is private to its folder"
echo '#include "proto/onestep.pb-c.h"' | append broker/loop.c
expect "generated code outside proto" layers "stays inside proto/"

sed -i '1s/.*/\/\* a pot \*\//' "$tree/common/base/pot.h"
expect "a wrong first line" headers "the first line must be"
sed -i 's/_POT_H/_PAN_H/' "$tree/common/base/pot.h"
expect "a wrong guard" headers "the include guard must be ONESTEP_COMMON_BASE_POT_H"
sed -i '/Stir it/d' "$tree/common/base/pot.h"
expect "an undocumented function" headers "pot_stir has no comment"
sed -i 's|^int pot_depth|\n&|' "$tree/common/base/pot.h"
expect "a comment that is not right above" headers "pot_depth has no comment"
sed -i '/What is in it/d' "$tree/common/base/pot.h"
expect "an undocumented struct" headers "struct soup has no comment"
sed -i 's|^/\* Stir|typedef void (*pot_fn)(void *self);\n\n&|' "$tree/common/base/pot.h"
expect "an undocumented type" headers "type pot_fn has no comment"

long_function 67 | append common/base/pot.c
expect "a function of 70 lines" size ""
long_function 68 | append common/base/pot.c
expect "a function of 71 lines" size "pot_long has 71 lines"
seq 1 1000 | sed 's/.*//' | append common/base/pot.c
expect "a long file" size "more than 1000 lines"
printf '/* %095d */\n' 0 | append common/base/pot.c
expect "a line of 101 columns" size "101 columns"
echo 'int pot_six(int a, int b, int c, int d, int e, void (*f)(int, int)) { return 0; }' |
    append common/base/pot.c
expect "six parameters" size ""
echo 'int pot_seven(int a, int b, int c, int d, int e, int f, int g) { return 0; }' |
    append common/base/pot.c
expect "seven parameters" size "pot_seven has 7 parameters"

echo '    const char *home = getenv("HOME");' | append client/run.c
expect "getenv" words "only common/config.c reads the environment"
echo '    char *home = getenv("HOME");' | append common/config.c
expect "getenv in its place" words ""
echo '    sprintf(a, "x");' | append client/run.c
expect "sprintf" words "no bound on what is written"
echo '    usleep(1000);' | append client/run.c
expect "a sleep" words "waiting is for a condition"
echo '    goto fail;' | append client/run.c
expect "a wrong label" words "the only label is out:"
echo '        goto out;' | append client/run.c
expect "the right label" words ""

echo 'int  x;' | append client/run.c
expect "a crooked line" format "client/run.c:1: not the house layout"

# Symbols are read from archives.
symbols() {
    (cd "$tree" && gcc -c -x c -o pot.c.o - && ar cq "libbase.a" pot.c.o)
}
echo 'int pot_size; int pot_stir(void) { return pot_size; }' | symbols
expect "good symbols" symbols ""
echo 'int stir_pot(void) { return 1; }' | symbols
expect "a symbol of another module" symbols "stir_pot must start with pot_"
echo 'int size;' | symbols
expect "a bare variable" symbols "size must start with pot_"

[ $failed -eq 0 ] || exit 1
echo "  LINT $count tests of the checks"
