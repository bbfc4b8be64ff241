#!/bin/sh
# The layout of every C file is what clang-format 14 makes of it. Usage: check_format.sh [ROOT]
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}" || exit 2

command -v clang-format-14 >/dev/null ||
    { echo "format: clang-format-14 is missing; run: ops/setup/deps.sh --with-lint"; exit 1; }
# shellcheck disable=SC2046
places=$(clang-format-14 --style=file:"$here/../../.clang-format" --dry-run \
    $("$here/sources.sh" .) 2>&1 |
    sed -n 's/^\([^ :]*\):\([0-9]*\):.*warning:.*/\1 \2/p' | awk '!seen[$1]++ { print $1 ":" $2 }')
[ -n "$places" ] || exit 0
echo "$places" | sed 's/.*/format: &: not the house layout from here on; run: make format/'
exit 1
