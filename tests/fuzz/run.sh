#!/bin/bash
# Run libFuzzer programs one after the other. Usage: run.sh BUILD_DIR SECONDS NAME...
# Each starts from tests/fuzz/corpus/NAME and from what earlier runs kept in BUILD_DIR/corpus/NAME.
# Fails when an entry broke; the input is then in BUILD_DIR/findings.
set -u
build=$1 seconds=$2
shift 2
[ $# -gt 0 ] || { echo "fuzz: no entry to run; FUZZ='NAME...' names entries of tests/fuzz"; exit 1; }
mkdir -p "$build/findings" "$build/log" || exit 1
tmp=$(mktemp -d /dev/shm/onestep-fuzz-XXXXXX) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
bad=0

# The value of one of libFuzzer's closing statistics.
stat_of() { sed -n "s/^stat::$1: *//p" "$log"; }

for name; do
    log=$build/log/$name
    seeds=tests/fuzz/corpus/$name
    words=tests/fuzz/words/$name
    mkdir -p "$build/corpus/$name" "$tmp/$name" || exit 1
    options=("-max_total_time=$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1
        "-artifact_prefix=$build/findings/$name-" "--tmp=$tmp/$name")
    [ ! -f "$words" ] || options+=("-dict=$words")
    # An entry's own log lines are dropped.
    nice -n 10 "$build/bin/fuzz_$name" "${options[@]}" "$build/corpus/$name" "$seeds" 2>&1 \
        </dev/null | grep -av '^20[0-9T:.-]*Z error ' >"$log"
    code=${PIPESTATUS[0]}
    inputs=$(stat_of number_of_executed_units)
    rate=$(stat_of average_exec_per_sec)
    if [ $code -eq 0 ] && [ "${inputs:-0}" -gt 0 ]; then
        kept=$(find "$build/corpus/$name" -type f | wc -l)
        printf '%-16s %10d inputs %8d/s %6d kept\n' "$name" "$inputs" "$rate" "$kept"
        continue
    fi
    bad=1
    echo "$name: broken (exit code $code), the whole report is in $log"
    # What went wrong, and the functions of ours that were at work.
    grep -E "CHECK failed|ERROR: |runtime error|^ +#[0-9]+ .* in [a-z_0-9]+ $PWD/" "$log" |
        head -30 | sed "s|$PWD/||; s/^ */    /"
    grep -E "^artifact_prefix" "$log" | sed "s/.*Test unit written to/    the input:/"
    echo "    again: $build/bin/fuzz_$name FILE; once it is fixed, keep FILE in $seeds"
done
exit $bad
