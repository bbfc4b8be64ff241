#!/bin/sh
# All stages: train.sh WORK CHECKPOINT [--photos FOLDER...] [--settings FILE]
# PYTHON names a Python with requirements.txt installed. Stopped and started again, it goes on.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
[ $# -ge 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
work=$1 checkpoint=$2
shift 2
python=${PYTHON:-python3}
export OMP_NUM_THREADS=1
mkdir -p "$work"

stage() { name=$1; shift; "$python" "$here/$name.py" "$@"; }

[ -e "$work/axes.pt" ] || stage train_axes "$work" "$@"
stage train_pool "$work" "$@"
stage train_vae "$work" "$@" >"$work/vae.log" 2>&1 &
vae=$!
stage train_unet "$work" "$@"                # beside the VAE: latents do not wait for its decoder
wait "$vae" || { tail -5 "$work/vae.log" >&2; exit 1; }
stage export "$work" "$checkpoint" "$@"
stage measure "$work" "$checkpoint" "$@"
