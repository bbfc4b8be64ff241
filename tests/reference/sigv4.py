#!/usr/bin/env python3
"""Random requests, signed by botocore: the fixture of the signer's test, or a long comparison.

    python3 -m venv DIR && DIR/bin/pip install botocore
    DIR/bin/python tests/reference/sigv4.py --count 300 --seed 1 >tests/fixtures/sigv4/botocore.tsv
    DIR/bin/python tests/reference/sigv4.py --count 100000 --run build/release/bin/test_common

The columns are in tests/unit/common/test_sigv4.c. botocore gets the address in its strict spelling,
our signer a random other spelling of the same: characters that may stay unescaped do so now and
then, escapes have small or capital letters, the query's order is random.
"""
import argparse
import datetime
import os
import random
import subprocess
import sys
import tempfile
from unittest import mock
from urllib.parse import quote

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PIECES = ["a", "B", "7", "=", ":", "+", " ", "/", "//", "..", ".", "~", "%", "&", "?", "#", "@", "!",
          "$", "'", "(", ")", "*", ",", ";", "[", "]", "{", "}", "\\", "^", "|", '"', "<", ">", "`",
          "ä", "日本", "😀", "run=7/seed=42", "%2F", "%20", "-", "_"]
NAMES = ["prefix", "list-type", "uploads", "uploadId", "partNumber", "max-keys", "a", "a-", "A", "ab"]
HEADERS = ["Content-Type", "If-None-Match", "Range", "x-amz-meta-seed", "x-amz-meta-seed-hi",
           "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
           "x-amz-meta-p", "x-amz-checksum-sha256", "X-Amz-Meta-Onestep-Job"]
RAW = "=:+@!$'()*,;"  # what our URL parser takes unescaped in a path


def word(rng, pieces, longest):
    return "".join(rng.choice(pieces) for _ in range(rng.randint(0, longest)))


def spelled(rng, text, raw):
    """An escaped spelling of text that is not the strict one."""
    out = []
    for byte in text.encode():
        char = chr(byte)
        if char.isalnum() and byte < 128 or char in "-._~" or (char in raw and rng.random() < 0.5):
            out.append(char if rng.random() < 0.97 else "%%%02x" % byte)
        else:
            out.append(("%%%02x" if rng.random() < 0.5 else "%%%02X") % byte)
    return "".join(out)


def value(rng):
    parts = [rng.choice(["x", "a=b", "*", "bytes=0-9", "é".encode().hex(), '"q"', "1,2"])
             for _ in range(rng.randint(0, 3))]
    blanks = [" " * rng.randint(1, 3), " \t "]
    return rng.choice(["", " "]) + rng.choice(blanks).join(parts) + rng.choice(["", "  "])


class Request:
    """A random request in both spellings."""

    def __init__(self, rng, kind):
        self.scheme = rng.choice(["http", "https"])
        self.host = rng.choice(["bucket.s3.amazonaws.com", "127.0.0.1", "minio.lan"])
        self.port = rng.choice(["", ":9000", ":80", ":443"])
        self.method = rng.choice(["GET", "PUT", "HEAD", "DELETE", "POST"])
        key = word(rng, PIECES, 12)
        query = [(rng.choice(NAMES) + word(rng, PIECES, 1), word(rng, PIECES, 4))
                 for _ in range(rng.choice([0, 0, 1, 2, 5]))]
        if kind == "presign":  # botocore keeps one value of each name there
            query = list(dict(query).items())
        origin = f"{self.scheme}://{self.host}{self.port}"
        self.strict = origin + "/" + quote(key, safe="/-._~")
        if query:
            self.strict += "?" + "&".join(f"{quote(n, safe='-._~')}={quote(v, safe='-._~')}"
                                          for n, v in query)
        self.ours = origin + "/" + spelled(rng, key, RAW + "/&")
        rng.shuffle(query)
        if query:
            pairs = []
            for name, val in query:
                text = spelled(rng, name, ":@!$'()*,;/?")
                if val or rng.random() < 0.5:
                    text += "=" + spelled(rng, val, ":@!$'()*,;/?=")
                pairs.append(text)
            self.ours += "?" + "&".join(pairs)
        names = [rng.choice(HEADERS) for _ in range(rng.choice([0, 1, 2, 5]))]
        if names and rng.random() < 0.3:
            names.append(names[0].upper())
        self.headers = [(name, value(rng)) for name in names]


def sign(rng, request, kind):
    """A row of the file."""
    access, secret = "AK" + str(rng.randint(0, 9)), rng.choice(["secret", "a/b+c=", "test:tester"])
    token = rng.choice(["", "", "FwoGZXIvYXdzE//+=token"])
    region = rng.choice(["us-east-1", "eu-west-3"])
    now = rng.randint(1, 4_000_000_000)
    payload = rng.choice(["-", "UNSIGNED-PAYLOAD", "%064x" % rng.getrandbits(256)])
    seconds = rng.randint(1, 604800)
    aws = AWSRequest(method=request.method, url=request.strict)
    for name, val in request.headers:
        aws.headers.add_header(name, val)
    keys = Credentials(access, secret, token or None)
    if kind == "header":
        signer = botocore.auth.S3SigV4Auth(keys, "s3", region)
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        signer.payload = lambda _: empty if payload == "-" else payload
    else:
        payload = "-"
        signer = botocore.auth.S3SigV4QueryAuth(keys, "s3", region, expires=seconds)
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    with mock.patch("botocore.auth.get_current_datetime", lambda *a, **k: moment):
        signer.add_auth(aws)
    if kind == "header":
        signature = aws.headers["Authorization"].split("Signature=")[1]
    else:
        signature = aws.url.split("X-Amz-Signature=")[1]
    headers = "|".join(f"{n}:{v}" for n, v in request.headers).replace("\t", " ")
    return "\t".join([kind, request.method, request.ours, str(now), access, secret, token, region,
                      "s3", payload, headers, str(seconds), signature])


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--count", type=int, default=300)
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--run", help="test_common: compare instead of printing")
    args = ask.parse_args()
    rng = random.Random(args.seed)
    with (tempfile.NamedTemporaryFile("w", suffix=".tsv") if args.run else sys.stdout) as out:
        print(f"# botocore {botocore.__version__}, sigv4.py --count {args.count} "
              f"--seed {args.seed}", file=out)
        for i in range(args.count):
            kind = "presign" if i % 4 == 3 else "header"
            print(sign(rng, Request(rng, kind), kind), file=out)
        out.flush()
        if args.run:
            env = dict(os.environ, ONESTEP_SIGV4_VECTORS=out.name)
            return subprocess.call([args.run, "storage_signatures_are_those_of_botocore"], env=env)
    return 0


if __name__ == "__main__":
    sys.exit(main())
