#!/bin/sh
# Print every C file of the project, headers included, one per line.
# Usage: sources.sh [ROOT [FOLDER...]]   default: all folders that hold code
root=${1:-.}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- common proto kernels worker broker client tests
cd "$root" || exit 2
for folder; do
    [ ! -d "$folder" ] || find "$folder" -name '*.[ch]'
done | LC_ALL=C sort
