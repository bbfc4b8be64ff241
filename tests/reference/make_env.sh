#!/bin/sh
# Make the Python environment of the reference: make_env.sh [FOLDER]
# FOLDER defaults to ${XDG_CACHE_HOME:-$HOME/.cache}/onestep/reference, outside the source tree.
# Prints the path of its python on stdout. Running it again brings the packages up to date.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/onestep/reference}

if ! python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "make_env.sh: needs Python 3.11 or later with venv (Debian: python3-venv)" >&2
    exit 1
fi
[ -x "$folder/bin/python" ] || python3 -m venv "$folder" >&2
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$here/requirements.txt" >&2
echo "$folder/bin/python"
