#!/bin/bash
# Check the model of leases, and that the checker notices each broken rule. Usage: run.sh [--quick]
# --quick leaves out what takes more than a few seconds.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v spin >/dev/null || { echo "spin is missing; run: make deps"; exit 1; }
bad=0

# build DEFINES...: the verifier. SAFETY is set for assertions, empty for the formula.
build() {
    rm -f pan*
    spin -a "$@" "$here/lease.pml" >spin.log 2>&1 || { cat spin.log; exit 1; }
    gcc -O1 -w ${SAFETY:+-DSAFETY -DNOCLAIM} -DNFAIR=3 -DCOLLAPSE -DMEMLIM=4000 -o pan pan.c
}

# check WANT NAME ARGUMENTS...: the verifier must say "errors: 0" (good), or find one (caught).
check() {
    local want=$1 name=$2 errors states
    shift 2
    ./pan -m2000000 "$@" >pan.log 2>&1 || true
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log)
    if grep -q 'max search depth too small\|out of memory\|memory limit' pan.log; then errors=unknown; fi
    case $want:$errors in
    good:0) echo "  ok      $name: $states states, 0 errors" ;;
    caught:[1-9]*) echo "  caught  $name" ;;
    *) echo "  FAILED  $name: wanted $want, errors: $errors"; tail -15 pan.log; bad=1 ;;
    esac
}
safe() { local want=$1 name=$2; shift 2; SAFETY=1 build "$@"; check "$want" "$name"; }
ends() { local want=$1 name=$2; shift 2; SAFETY='' build "$@"; check "$want" "$name" -a -f -N ends; }

small="-DCLAIMS=3 -DCRASHES=1"
calm="$small -DFAILOVERS=0"
# shellcheck disable=SC2086
{
    safe good "the design: 2 workers, 1 crash, 1 failover" $small
    ends good "every job ends" $calm
    safe caught "no manifest" $small -DNO_MANIFEST
    safe caught "no fence" $calm -DNO_FENCE
    safe caught "leases compared by the counter alone" $small -DCOUNTER_ONLY
    safe caught "upload keys without the nonce" $small -DCOUNTER_KEY
    safe caught "ended jobs can be cancelled" $small -DLATE_CANCEL
    ends caught "leases never end" $calm -DNO_SWEEP
    if [ "${1:-}" != --quick ]; then
        safe good "the design: 2 workers, 2 crashes, 1 failover, 4 claims"
        safe good "the design: 3 workers, 1 crash, 1 failover" -DWORKERS=3 $small
    fi
}
exit $bad
