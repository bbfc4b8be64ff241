#!/bin/bash
# The durable queues of Debian under the same load as bench_queue: 4 producers, 4 consumers, 1 KiB.
# Each is started in a folder of its own and stopped again. What is not installed is said.
# Usage: peers.sh [JOBS]
set -u
here=$(cd "$(dirname "$0")" && pwd)
jobs=${1:-20000}
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$dir"' EXIT

row() { printf '%-38s %12s %s\n' "$1" "$2" "$3"; }
missing() { row "$1" - "not installed: apt-get install $2"; }
# wait_port PORT: until somebody listens, 60 s.
wait_port() {
    for _ in $(seq 600); do (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0; read -rt 0.1 <> <(:); done
    return 1
}
stop() { kill "$server"; wait "$server" 2>/dev/null; server=; }
# measure NAME KIND PORT JOBS: both ways of speaking to it.
measure() {
    local n
    wait_port "$3" || { row "$1" - "does not start"; return; }
    for depth in 64 1; do
        n=$4; [ $depth = 64 ] || n=$(($4 / 20))
        row "$1$([ $depth = 64 ] || echo ', one by one')" \
            "$("$dir/peer" "$2" "$3" "$n" $([ $depth = 64 ] && echo 4 4 || echo 1 1) $depth 2>&1 | tail -1)" jobs/s
    done
}

flags=() libs=()
if pkg-config --exists libnats 2>/dev/null || [ -e /usr/include/nats/nats.h ]; then
    flags+=(-DWITH_NATS) libs+=(-lnats); fi
if pkg-config --exists librabbitmq 2>/dev/null; then flags+=(-DWITH_RABBITMQ) libs+=(-lrabbitmq); fi
gcc -std=c11 -D_GNU_SOURCE -O2 -w "${flags[@]}" -o "$dir/peer" "$here/peer.c" "${libs[@]}" || exit 1

if command -v beanstalkd >/dev/null; then
    mkdir "$dir/b"
    beanstalkd -l 127.0.0.1 -p 21300 -b "$dir/b" -f0 & server=$!
    measure "beanstalkd -f0 (fsync)" beanstalkd 21300 "$jobs"
    stop
else missing "beanstalkd" beanstalkd; fi

if command -v nats-server >/dev/null && [[ " ${flags[*]} " == *WITH_NATS* ]]; then
    for sync in always default; do
        name="NATS JetStream (fsync $([ $sync = always ] && echo always || echo 'every 2 min'))"
        rm -rf "$dir/n"; mkdir "$dir/n"
        printf 'listen: 127.0.0.1:24222\njetstream { store_dir: "%s/n"\n%s }\n' "$dir" \
            "$([ $sync = default ] || echo 'sync_interval: always')" >"$dir/nats.conf"
        nats-server -c "$dir/nats.conf" >"$dir/nats.log" 2>&1 & server=$!
        if wait_port 24222 && kill -0 $server 2>/dev/null; then measure "$name" nats 24222 "$jobs"; stop
        else row "$name" - "this version can't"; server=; fi
    done
else missing "NATS JetStream" "nats-server libnats-dev"; fi

if [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && [[ " ${flags[*]} " == *WITH_RABBITMQ* ]]; then
    export HOME=$dir/r RABBITMQ_BASE=$dir/r RABBITMQ_MNESIA_BASE=$dir/r/m RABBITMQ_LOG_BASE=$dir/r/l
    export RABBITMQ_NODENAME=bench@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
    export RABBITMQ_NODE_PORT=25672 RABBITMQ_DIST_PORT=25673 RABBITMQ_PID_FILE=$dir/r/pid
    export RABBITMQ_CONFIG_FILE=$dir/r/c RABBITMQ_ENABLED_PLUGINS_FILE=$dir/r/p
    mkdir -p "$dir/r"; echo '[].' >"$dir/r/p"; : >"$dir/r/c.conf"
    /usr/lib/rabbitmq/bin/rabbitmq-server >"$dir/r.log" 2>&1 & server=$!
    measure "RabbitMQ quorum queue (fsync)" rabbitmq 25672 "$((jobs / 2))"
    stop
else missing "RabbitMQ" "rabbitmq-server librabbitmq-dev"; fi

python=$(command -v /usr/bin/python3 || true)
redis-server --port 26399 --bind 127.0.0.1 --dir "$dir" --save '' --appendonly yes \
    --appendfsync always >/dev/null 2>&1 & server=$!
wait_port 26399
for kind in rq celery; do
    if [ -n "$python" ] && "$python" -c "import $kind, redis" 2>/dev/null; then
        row "$kind on Redis (fsync)" "$(cd "$here" && PYTHONDONTWRITEBYTECODE=1 timeout 100 \
            "$python" peers.py $kind 300 2>/dev/null | tail -1)" jobs/s
    else missing "$kind" "python3-$kind python3-redis"; fi
done
stop
