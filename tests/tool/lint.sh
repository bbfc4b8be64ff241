#!/bin/sh
# Every check of the source that needs no build. Usage: lint.sh [ROOT]
# All of them run, so that one look shows everything; fails when one did. Without ROOT, the checks
# themselves are tested too.
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-$here/../..}
bad=0

for check in layers headers size words format; do
    if "$here/check_$check.sh" "$root"; then
        echo "  LINT $check"
    else
        echo "  LINT $check: failed"
        bad=1
    fi
done
[ $# -gt 0 ] || "$here/test_lint.sh" || bad=1
exit $bad
