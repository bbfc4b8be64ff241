#!/bin/bash
# moto's S3 server, for tests. Usage: moto.sh --install, or moto.sh DIR
# --install makes a Python environment with moto in ~/.cache/onestep/moto (ONESTEP_MOTO names another
# folder); it needs the network. A moto_server on the PATH will do as well. With DIR it prints
# "ready PORT", and serves until its standard input ends; exit code 3 says that moto is not installed.
set -eu
env=${ONESTEP_MOTO:-$HOME/.cache/onestep/moto}
if [ "$1" = --install ]; then
    python3 -m venv "$env"
    exec "$env/bin/pip" install -q 'moto[s3,server]' boto3
fi
server=$env/bin/moto_server
[ -x "$server" ] || server=$(command -v moto_server) || exit 3
cd "$1"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$server" -H 127.0.0.1 -p "$port" >moto.log 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; wait' EXIT
for _ in $(seq 600); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "ready $port"
        cat >/dev/null
        exit 0
    fi
    kill -0 $pid 2>/dev/null || { echo "moto ended; see $1/moto.log" >&2; exit 1; }
    sleep 0.1
done
echo "no answer of moto; see $1/moto.log" >&2
exit 1
