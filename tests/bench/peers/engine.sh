#!/bin/bash
# bench_engine, then the same clip by diffusers: engine.sh BIN MODEL SIZE PRECISION [JSON]
# BIN holds bench_engine and make_checkpoint; MODEL is made if it is not there (4.5 GB). The peer runs
# where the environment of tests/reference/make_env.sh is; PYTHON names another python.
set -eu -o pipefail
bin=$1 model=$2 size=$3 precision=$4 json=${5:-0}
here=$(dirname "$0")

[ -f "$model/unet/diffusion_pytorch_model.safetensors" ] ||
    "$bin/make_checkpoint" tests/fixtures/svd-xt "$model"
ours=$(mktemp)
trap 'rm -f "$ours"' EXIT
"$bin/bench_engine" "$model" --size "$size" --precision "$precision" --json >"$ours"
if [ "$json" = 1 ]; then
    cat "$ours"
else
    sed 's/,"peer".*//; s/[{}"]//g; s/name://; s/value://; s/unit://; s/,/  /g' "$ours"
fi
python=${PYTHON:-${XDG_CACHE_HOME:-$HOME/.cache}/onestep/reference/bin/python}
if [ ! -x "$python" ]; then
    echo "no peer: diffusers is not installed; tests/reference/make_env.sh installs it" >&2
    exit 0
fi
dtype=float32
[ "$precision" = f32 ] || dtype=bfloat16
"$python" "$here/engine_diffusers.py" "$model" --size "$size" --dtype $dtype --ours "$ours" >&2
