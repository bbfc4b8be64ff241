#!/bin/bash
# Run every test suite, one after the other, and sum up.
# Usage: run_suites.sh BIN_DIR "SUITE..." [suite arguments]
# The last line is "N passed, N failed, N skipped". Fails on any failure and when no test ran.
set -u
bin=$1 suites=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0
# For the real programs that tests start; the suites know it by themselves.
export TSAN_OPTIONS="suppressions=$PWD/tests/tool/tsan.supp ${TSAN_OPTIONS:-}"

# A harness that took a failure for a success would say so of its own tests as well.
"$bin/victim" --tmp "$scratch" .fails_here >/dev/null 2>&1
if [ $? -ne 1 ]; then
    echo "The test harness does not notice a failing test; nothing it says counts."
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

for suite in $suites; do
    # The output is shown as it comes; the suite's own last line carries its counts.
    summary=
    while IFS= read -r line; do
        case $line in "suite $suite: "*) summary=$line ;; esac
        # A filter leaves many suites without a test; they have nothing to say.
        [[ $line == *": 0 passed, 0 failed, 0 skipped" ]] || printf '%s\n' "$line"
    done < <("$bin/$suite" --bin "$bin" "$@")
    wait $! && rc=0 || rc=$?
    if [[ $summary =~ :\ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        skipped=$((skipped + BASH_REMATCH[3]))
        # 0 passed, 1 failed, 3 nothing selected; anything else is the runner's own trouble.
        [[ " 0 1 3 " == *" $rc "* ]] || summary=
    fi
    if [ -z "$summary" ]; then
        echo "FAIL $suite: ended with exit code $rc and without a good summary"
        failed=$((failed + 1))
    fi
done

[ $((passed + failed + skipped)) -gt 0 ] || echo "no test has a name like this: $*"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
