#!/bin/sh
# Every global symbol starts with its file's module name, the first word of the stem: job_store.c
# has job_* (or jobs_*). Kernels may use kern_. Usage: check_symbols.sh BUILD_DIR
build=$1
bad=0
if [ ! -e "$build/libbase.a" ]; then
    echo "symbols: no libraries in $build; run make first"
    exit 1
fi

for archive in "$build"/lib*.a; do
    case $archive in */libtest.a) continue ;; esac
    nm -g --defined-only "$archive" 2>/dev/null | awk -v archive="${archive##*/}" '
    /^[^ ]+\.o:$/ {
        file = $1
        sub(/\.o:$/, "", file)
        module = file
        sub(/[_.].*/, "", module)
    }
    # Generated code has its own names; a leading underscore belongs to compiler and sanitizers.
    NF == 3 && $2 ~ /^[TDBRC]$/ && file !~ /\.pb-c\.c$/ && $3 !~ /^_/ {
        if (index($3, module "_") == 1 || index($3, module "s_") == 1) next
        if (archive == "libkernels.a" && index($3, "kern_") == 1) next
        print "symbols: " file " in " archive ": " $3 " must start with " module "_, or be static"
        bad = 1
    }
    END { exit bad }' || bad=1
done
exit $bad
