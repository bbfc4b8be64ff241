#!/bin/sh
# Find the Debian packages that Onestep needs and install what is missing, saying what each is for.
# Usage: deps.sh [--check] [--with-lint] [--with-fuzz] [--with-storage] [--with-peers]
#   --check      install nothing; fail when something is missing
#   --with-lint  also what `make lint` and .ci/run need
#   --with-fuzz  also what `make fuzz` needs
#   --with-storage  also an object store and a client, for tests that skip without them
#   --with-peers also the queues that `make bench-queue` measures beside ours
set -eu

# package | what for
needed='
gcc|compiles everything
libc6-dev|the C library headers
make|runs the Makefile
pkg-config|finds the libraries below
protobuf-c-compiler|turns proto/onestep.proto into C
libprotobuf-c-dev|messages between client, broker and worker
libzmq3-dev|sockets between client, broker and worker
libhiredis-dev|the connection to Redis
spin|checks the model of leases in tests/spin
redis-server|keeps jobs and leases; onestep run starts a private one
libcurl4-openssl-dev|fetches input images, uploads results
libssl-dev|checksums, request signatures, TLS to Redis
openssl|makes the certificates of tests, and serves them
libmicrohttpd-dev|metrics and health over HTTP, in broker and worker
libyaml-dev|configuration files
libjansson-dev|model configurations and result manifests
libavformat-dev|reads images, writes MP4 files
libavcodec-dev|decodes images, encodes H.264 and PNG
libavutil-dev|pixel formats for the two above
liblcms2-dev|colour profiles of photographs
libswscale-dev|converts between RGB and YUV
libdnnl-dev|oneDNN, the peer that make bench-kernels measures against
'
needed_by_lint='
clang-format-14|checks the layout of the source
universal-ctags|measures the length of functions
binutils|lists the symbols of object files
'
needed_by_fuzz='
clang-14|builds the entries of tests/fuzz
libclang-rt-14-dev|libFuzzer and the sanitizers that go with it
llvm-14|names functions in the sanitizers'"'"' reports
'
needed_by_storage='
swift-proxy|OpenStack Swift with the S3 API, which tests store results in
swift-account|part of it
swift-container|part of it
swift-object|part of it
python3-lxml|its S3 API reads XML with it
python3-boto3|reads our objects back, sharing nothing with us
'

needed_by_peers='
beanstalkd|peer of make bench-queue
nats-server|peer of make bench-queue
libnats-dev|speaks to nats-server
rabbitmq-server|peer of make bench-queue
librabbitmq-dev|speaks to rabbitmq-server
python3-rq|peer of make bench-queue
python3-celery|peer of make bench-queue
python3-redis|lets both speak to Redis
'

check_only=no
remedy="make deps"
for arg; do
    case $arg in
    --check) check_only=yes ;;
    --with-lint)
        needed=$needed$needed_by_lint
        remedy="ops/setup/deps.sh --with-lint" ;;
    --with-fuzz)
        needed=$needed$needed_by_fuzz
        remedy="ops/setup/deps.sh --with-fuzz" ;;
    --with-storage)
        needed=$needed$needed_by_storage
        remedy="ops/setup/deps.sh --with-storage" ;;
    --with-peers)
        needed=$needed$needed_by_peers
        remedy="ops/setup/deps.sh --with-peers" ;;
    *) echo "deps.sh: $arg is not an option; its first lines have them" >&2
       exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "This is not a Debian system, so what is installed can't be checked. Onestep needs:"
    echo "$needed" | sed -n 's/|/: /p'
    exit 0
fi

names=$(echo "$needed" | sed -n 's/|.*//p')
# One query for all; a package that was never heard of goes to stderr, which says nothing new.
# shellcheck disable=SC2086
installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $names 2>/dev/null |
    sed -n 's/^installed //p' | tr '\n' ' ') "
missing=
for name in $names; do
    case $installed in *" $name "*) continue ;; esac
    missing="$missing $name"
done

if [ -z "$missing" ]; then
    [ "$check_only" = yes ] || echo "All packages that Onestep needs are installed."
    exit 0
fi
echo "Missing Debian packages:"
for name in $missing; do
    echo "$needed" | sed -n "s/^$name|/  $name: /p"
done
if [ "$check_only" = yes ]; then
    echo "Install them with: $remedy" >&2
    exit 1
fi

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "Installing needs root, and there is no sudo. As root, run: apt-get install$missing" >&2
    exit 1
fi

if ! $as_root true; then
    echo "Installing needs root, and sudo refused. As root, run: apt-get install$missing" >&2
    exit 1
fi

# Onestep starts its own redis-server on a private socket; the system-wide service that comes with
# the package would only take memory and a port, so it is kept from starting, now and at boot.
hold_redis=no
case " $missing " in *" redis-server "*)
    if [ -d /run/systemd/system ] && command -v systemctl >/dev/null; then
        hold_redis=yes
        $as_root systemctl mask --runtime --quiet redis-server.service
    fi ;;
esac
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

if ! apt update; then
    echo "apt-get update failed; is the network up? Then run make deps again." >&2
    exit 1
fi
# shellcheck disable=SC2086
if ! apt install -y --no-install-recommends $missing; then
    echo "apt-get could not install:$missing; its message is above." >&2
    exit 1
fi
if [ $hold_redis = yes ]; then
    $as_root systemctl unmask --runtime --quiet redis-server.service
    $as_root systemctl disable --quiet redis-server.service
fi
echo "All packages that Onestep needs are installed."
