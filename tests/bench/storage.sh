#!/bin/bash
# Runs bench_storage, beside Swift when that is installed. Usage: storage.sh BIN_DIR [--json]
set -eu -o pipefail
bin=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v swift-proxy-server >/dev/null; then
    echo "no Swift to measure with; ops/setup/deps.sh --with-storage installs it" >&2
    exec "$bin/bench_storage" - "$@"
fi
dir=$(mktemp -d)
trap 'exec 4>&-; wait; rm -rf "$dir"' EXIT
mkfifo "$dir/in" "$dir/out"
"$here/../e2e/swift.sh" "$dir/swift" <"$dir/in" >"$dir/out" 4>&- &
exec 4>"$dir/in"
read -r _ port <"$dir/out"
/usr/bin/python3 -c '
import boto3, sys
from botocore.config import Config
boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
             aws_access_key_id="test:tester", aws_secret_access_key="testing",
             config=Config(s3={"addressing_style": "path"})).create_bucket(Bucket="clips")
' "http://127.0.0.1:$port"
"$bin/bench_storage" "http://127.0.0.1:$port" "$@"
