#!/bin/bash
# OpenStack Swift with its S3 API, all in one folder, for tests.
# Usage: swift.sh DIR
# Prints "ready PORT" once it answers, runs until its standard input ends, and then stops its servers.
# Access key test:tester, secret key testing. Logs are in DIR/*.log.
# Needs the packages of ops/setup/deps.sh --with-storage; swift.conf is the package's, in /etc/swift.
set -eu
dir=$1
mkdir -p "$dir/devices/d1"
cd "$dir"

read -r proxy account container object < <(/usr/bin/python3 -c '
import socket
sockets = [socket.socket() for _ in range(4)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')

# One device, one replica, four partitions.
ring() {
    swift-ring-builder "$1.builder" create 2 1 0
    swift-ring-builder "$1.builder" add "r1z1-127.0.0.1:$2/d1" 1
    swift-ring-builder "$1.builder" rebalance
}
{ ring account "$account" & ring container "$container" & ring object "$object" & wait; } >rings.log

backend() {
    cat >"$1.conf" <<END
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $2
workers = 0
user = $(id -un)
swift_dir = $dir
devices = $dir/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_name = $1
[pipeline:main]
pipeline = $1-server
[app:$1-server]
use = egg:swift#$1
END
}
backend account "$account"
backend container "$container"
backend object "$object"
cat >proxy.conf <<END
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $proxy
workers = 0
user = $(id -un)
swift_dir = $dir
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache bulk listing_formats s3api tempauth copy slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
min_segment_size = 1
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
# The cache has to be named, but nobody needs to be there.
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:versioned_writes]
use = egg:swift#versioned_writes
[filter:bulk]
use = egg:swift#bulk
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
minimum_segment_size = 1
[filter:dlo]
use = egg:swift#dlo
END

pids=
# shellcheck disable=SC2086
stop() { kill $pids 2>/dev/null || true; wait; }
trap stop EXIT
for server in account container object proxy; do
    setpriv --pdeathsig KILL "swift-$server-server" "$dir/$server.conf" -v >"$server.log" 2>&1 &
    pids="$pids $!"
done

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for port in "$account" "$container" "$object" "$proxy"; do
    for _ in $(seq 1100); do
        if answers "$port"; then continue 2; fi
        # shellcheck disable=SC2086
        kill -0 $pids 2>/dev/null || { echo "a server ended; see $dir/*.log" >&2; exit 1; }
        sleep 0.1
    done
    echo "no answer at port $port; see $dir/*.log" >&2
    exit 1
done
echo "ready $proxy"
cat >/dev/null
