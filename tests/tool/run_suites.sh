#!/bin/bash
# Run every test suite, one after the other, and sum up.
# Usage: run_suites.sh BIN_DIR "SUITE..." [suite arguments]
# The last line is "N passed, N failed, N skipped". Fails on any failure and when no test ran.
set -u
bin=$1 suites=$2
shift 2
passed=0 failed=0 skipped=0

for suite in $suites; do
    # The output is shown as it comes; the suite's own last line carries its counts.
    summary=
    while IFS= read -r line; do
        case $line in "suite $suite: "*) summary=$line ;; esac
        # A filter leaves many suites without a test; they have nothing to say.
        [[ $line == *": 0 passed, 0 failed, 0 skipped" ]] || printf '%s\n' "$line"
    done < <("$bin/$suite" --bin "$bin" "$@")
    if [[ $summary =~ :\ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        skipped=$((skipped + BASH_REMATCH[3]))
    else
        echo "FAIL $suite: ended without its summary line"
        failed=$((failed + 1))
    fi
done

[ $((passed + failed + skipped)) -gt 0 ] || echo "no test has a name like this: $*"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
