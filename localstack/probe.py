#!/usr/bin/env python3
"""What `localstack/up` asks of its services, with the standard library only: free ports, whether a service answers, a bucket,
and a race of conditional creates that a store must let exactly one win.

The requests are signed as AWS wants it (Signature Version 4). Addresses, keys and the region come from the environment,
under the names the AWS tools have for them."""

import argparse
import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import os
import random
import socket
import sys
import threading
import time
import urllib.parse


def signature(secret, date, region, service, text):
    """The signature of a string to sign, in hexadecimal digits."""
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def signed(method, host, path, query, headers, body, *, key, secret, region, service, now=None):
    """The headers of a request, with those that sign it. `path` is encoded already; `query` is a list of pairs."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    stamp, date = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-date": stamp, **{name.lower(): value for name, value in headers.items()}}
    if service == "s3":
        headers["x-amz-content-sha256"] = digest
    names = sorted(headers)
    canonical = "\n".join(
        [
            method,
            # Every service but S3 has the path encoded once more.
            path if service == "s3" else urllib.parse.quote(path),
            "&".join(f"{quote(name)}={quote(value)}" for name, value in sorted(query)),
            *(f"{name}:{headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            digest,
        ]
    )
    scope = f"{date}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    value = signature(secret, date, region, service, text)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={value}"
    )
    return headers


def quote(text):
    return urllib.parse.quote(text, safe="-_.~")


class Client:
    """One connection to a service."""

    def __init__(self, url, service):
        self.address = urllib.parse.urlsplit(url)
        self.service = service
        self.connection = http.client.HTTPConnection(self.address.netloc, timeout=120)

    def ask(self, method, path, body=b"", headers={}, query=()):
        """Sends a request: its status and its body."""
        everything = signed(
            method,
            self.address.netloc,
            path,
            query,
            headers,
            body,
            key=os.environ["AWS_ACCESS_KEY_ID"],
            secret=os.environ["AWS_SECRET_ACCESS_KEY"],
            region=os.environ["AWS_REGION"],
            service=self.service,
        )
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        self.connection.request(method, target, body, everything)
        reply = self.connection.getresponse()
        return reply.status, reply.read()


    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def store():
    return Client(os.environ["AWS_ENDPOINT_URL_S3"], "s3")


def ask_store(*request):
    with store() as client:
        return client.ask(*request)


def free_ports(count):
    """Ports nobody listens at, nor at those 10000 above them, and none that the system gives to clients."""
    held = []
    while len(held) < 2 * count:
        port = random.randrange(10500, 21900)
        pair = [socket.socket(), socket.socket()]
        try:
            # Not with SO_REUSEADDR: a port that is in use must fail here.
            pair[0].bind(("127.0.0.1", port))
            pair[1].bind(("127.0.0.1", port + 10000))
            held += pair
        except OSError:
            for one in pair:
                one.close()
    ports = [one.getsockname()[1] for one in held[::2]]
    for one in held:
        one.close()
    return ports


def is_free(port):
    """Whether one could listen at a port; connections that ended a moment ago are no obstacle."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait(question, seconds):
    """Asks until the answer is no fault: None, or what the last fault was."""
    end = time.monotonic() + seconds
    while True:
        fault = question()
        if fault is None or time.monotonic() > end:
            return fault
        time.sleep(0.1)


def make_bucket(bucket):
    """Makes a bucket where there is none: what is wrong, or None."""
    try:
        status, body = ask_store("PUT", f"/{bucket}")
    except (OSError, http.client.HTTPException) as e:
        return str(e) or type(e).__name__
    if status == 200 or (status == 409 and b"BucketAlreadyOwnedByYou" in body):
        # It answers when it can hold an object, and not before.
        status, body = ask_store("PUT", f"/{bucket}/.voxmill-probe", b"probe")
        if status == 200:
            status, body = ask_store("DELETE", f"/{bucket}/.voxmill-probe")
    return None if status in (200, 204) else f"{status} {body.decode(errors='replace')[:200]}"


def race(bucket, runners):
    """All create the same object at once, if it is not there: what is wrong, or None."""
    path = f"/{bucket}/.voxmill-race-{random.randrange(1 << 64):016x}"
    start = threading.Barrier(runners)

    def run(number):
        with store() as client:
            # Connected before the start, so that the requests arrive together.
            client.connection.connect()
            start.wait()
            return client.ask("PUT", path, b"%d" % number, {"If-None-Match": "*"})[0]

    with concurrent.futures.ThreadPoolExecutor(runners) as pool:
        statuses = list(pool.map(run, range(runners)))
    status, body = ask_store("GET", path)
    ask_store("DELETE", path)
    winners = [number for number, status in enumerate(statuses) if status == 200]
    strange = sorted({status for status in statuses} - {200, 409, 412})
    if len(winners) != 1:
        return f"of {runners} conditional creates of one object {len(winners)} succeeded"
    if strange:
        return f"conditional creates were answered by {strange}"
    if (status, body) != (200, b"%d" % winners[0]):
        return f"the object that won is not the one that is there ({status})"
    return None


def function_answers(name):
    """Whether the function is there: what is wrong, or None."""
    function, _, qualifier = name.partition(":")
    query = [("Qualifier", qualifier)] if qualifier else []
    path = f"/2015-03-31/functions/{function}/configuration"
    try:
        with Client(os.environ["AWS_ENDPOINT_URL_LAMBDA"], "lambda") as client:
            status, body = client.ask("GET", path, query=query)
    except (OSError, http.client.HTTPException) as e:
        return str(e) or type(e).__name__
    return None if status == 200 else f"{status} {body.decode(errors='replace')[:200]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = parser.add_subparsers(dest="word", required=True)
    words.add_parser("ports").add_argument("count", type=int)
    words.add_parser("are-free").add_argument("ports", type=int, nargs="+")
    words.add_parser("bucket").add_argument("bucket")
    words.add_parser("race").add_argument("bucket")
    words.add_parser("function").add_argument("name")
    for word in ("bucket", "function"):
        words.choices[word].add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args()
    fault = None
    if args.word == "ports":
        print(*free_ports(args.count), sep="\n")
    elif args.word == "are-free":
        taken = [port for port in args.ports if not (is_free(port) and is_free(port + 10000))]
        fault = f"taken: {taken}" if taken else None
    elif args.word == "bucket":
        fault = wait(lambda: make_bucket(args.bucket), args.seconds)
    elif args.word == "race":
        try:
            fault = race(args.bucket, 50)
        except (OSError, http.client.HTTPException) as e:
            fault = f"it doesn't answer all who ask at once: {e}"
    elif args.word == "function":
        fault = wait(lambda: function_answers(args.name), args.seconds)
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
