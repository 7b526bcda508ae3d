"""Runs a command against the function's own program served by cargo-lambda, an emulator of Lambda that others wrote: what
works with both rests on neither's misreading of the Runtime API.

cargo-lambda serves the APIs (`--only-lambda-apis`); the instances are started here, from the program that localstack/up has
deployed, with the same variables. cargo-lambda knows Invoke and nothing else: questions about the function go to the
endpoint of localstack/up. Two things are put as Lambda puts them, on the way: what it answers when a function fails (a
status of its own), and the deadline of an event (ten minutes after the beginning of 1970). The tail of a log it doesn't
have, and of a process that ends within an invocation it says nothing until its time is over."""

import argparse
import ctypes
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.parse

import probe

HERE = pathlib.Path(__file__).resolve().parent
STATE = HERE.parent / ".localstack"
INVOKE = re.compile(r"^/2015-03-31/functions/[^/]+/invocations(\?.*)?$")
# What cargo-lambda calls a function that it hasn't started itself.
UNNAMED = "/2015-03-31/functions/_/invocations"
# Where it has the Runtime API.
RUNTIME = "/.rt"


def deployed():
    """The program and the variables that localstack/up has given to the endpoint."""
    words = (STATE / "lambda.arguments").read_text().splitlines()
    values = {}
    for word, value in zip(words, words[1:]):
        if word.startswith("--"):
            values.setdefault(word[2:], []).append(value)
    return {
        "program": values["function"][0].partition("=")[2],
        "memory": values["memory"][0],
        "timeout": values["timeout"][0],
        "variables": dict(value.split("=", 1) for value in values["env"]),
    }


def die_with_me():
    """In a child: the kernel kills it when this process ends, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(command, **options):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_me, start_new_session=True, **options)


class Instances:
    """So many processes of the function; one that ends is followed by another."""

    def __init__(self, function, address, count, log):
        self.started = 0
        self.stopping = False
        self.processes = []
        self.threads = [threading.Thread(target=self.keep, args=(function, address, log), daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def keep(self, function, address, log):
        variables = {
            "PATH": "/usr/local/bin:/usr/bin/:/bin",
            "LAMBDA_TASK_ROOT": os.path.dirname(function["program"]),
            "AWS_LAMBDA_FUNCTION_NAME": "_",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": function["memory"],
            "AWS_LAMBDA_RUNTIME_API": f"http://{address}{RUNTIME}",
            "AWS_DEFAULT_REGION": os.environ["AWS_REGION"],
            **{name: os.environ[name] for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
            **function["variables"],
        }
        while not self.stopping:
            self.started += 1
            process = start([function["program"]], env=variables, stdout=log, stderr=log)
            self.processes.append(process)
            process.wait()
            time.sleep(0.2)

    def stop(self):
        self.stopping = True
        for process in self.processes:
            process.kill()


class Relay(http.server.BaseHTTPRequestHandler):
    """Invocations and the Runtime API are cargo-lambda's, questions the endpoint's."""

    protocol_version = "HTTP/1.1"
    judge = endpoint = None
    seconds = 900.0
    lock = threading.Lock()
    counts = {"invocations": 0, "failed": 0}

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not INVOKE.match(self.path):
            address = self.judge if self.path.startswith(RUNTIME) else self.endpoint
            return self.reply(*self.ask(address, self.path, body))
        status, headers, answer = self.ask(self.judge, UNNAMED, body)
        status, headers = as_lambda(status, answer, headers)
        with self.lock:
            self.counts["invocations"] += 1
            self.counts["failed"] += "X-Amz-Function-Error" in headers
        self.reply(status, headers, answer)

    def do_GET(self):
        if not self.path.startswith(RUNTIME):
            return self.reply(*self.ask(self.endpoint, self.path, b""))
        status, headers, answer = self.ask(self.judge, self.path, b"")
        self.reply(status, with_deadline(headers, time.time() + self.seconds), answer)

    def ask(self, address, path, body):
        """What a server answers to this request: status, headers, body."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        # An instance waits for its next event as long as it takes.
        connection = http.client.HTTPConnection(address, timeout=None if path.startswith(RUNTIME) else self.seconds + 30)
        try:
            connection.request(self.command, path, body, headers)
            reply = connection.getresponse()
            answer = reply.read()
            return reply.status, {name: value for name, value in reply.getheaders() if name.lower() not in OWN}, answer
        except (OSError, http.client.HTTPException) as e:
            return 502, {}, json.dumps({"message": str(e)}).encode()
        finally:
            connection.close()

    def reply(self, status, headers, answer):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


# Headers of a connection, which end where it ends.
OWN = {"host", "connection", "content-length", "transfer-encoding", "expect", "date"}


def with_deadline(headers, deadline):
    """The headers of an event with a deadline, in seconds since 1970, in the place of one that is long past."""
    return {
        name: str(max(int(value), int(deadline * 1000))) if name.lower() == "lambda-runtime-deadline-ms" else value
        for name, value in headers.items()
    }


def as_lambda(status, answer, headers):
    """The status and the headers Lambda has for an answer of cargo-lambda: a function that failed is 200 there."""
    headers = {**headers, "X-Amz-Executed-Version": "1"}
    try:
        failed = status >= 400 and "errorType" in json.loads(answer)
    except (ValueError, TypeError):
        failed = False
    if failed:
        return 200, {**headers, "X-Amz-Function-Error": "Unhandled"}
    return status, headers


class Server(socketserver.ThreadingTCPServer):
    # Not an HTTPServer, which asks the network for its own name.
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A connection that ends while it is served is an instance, or a caller, that is done."""


def listens(address):
    host, port = address.split(":")
    try:
        with probe.socket.create_connection((host, int(port)), timeout=1):
            return None
    except OSError as e:
        return str(e)


def main():
    parser = argparse.ArgumentParser(prog="localstack/second-judge", description=__doc__.splitlines()[0])
    parser.add_argument("--function", help="its program (else the one that localstack/up has deployed)")
    parser.add_argument("--instances", type=int, default=2, help="how many processes of it (2)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("a command is missing")
    function = deployed()
    if args.function:
        function["program"] = os.path.realpath(args.function)

    # cargo-lambda looks for a project, though it builds nothing of it here.
    project = STATE / "judge"
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "src" / "main.rs").write_text("fn main() {}\n")
    (project / "Cargo.toml").write_text('[package]\nname = "judge"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n')
    address = f"127.0.0.1:{probe.free_ports(1)[0]}"
    log = open(STATE / "judge.log", "ab")
    seconds = str(int(float(function["timeout"])))
    judge = start(
        [STATE / "venv" / "bin" / "cargo-lambda", "lambda", "watch", "--only-lambda-apis"]
        + ["--invoke-address", "127.0.0.1", "--invoke-port", address.split(":")[1], "--timeout", seconds],
        cwd=project,
        stdout=log,
        stderr=log,
    )
    instances = None
    try:
        fault = probe.wait(lambda: listens(address) if judge.poll() is None else None, 30)
        if fault or judge.poll() is not None:
            print(f"localstack/second-judge: cargo-lambda doesn't answer (its log: {STATE / 'judge.log'})", file=sys.stderr)
            return 1
        Relay.judge = address
        Relay.endpoint = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_LAMBDA"]).netloc
        Relay.seconds = float(seconds)
        server = Server(("127.0.0.1", 0), Relay)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        relay = f"127.0.0.1:{server.server_address[1]}"
        instances = Instances(function, relay, args.instances, log)
        try:
            status = subprocess.call(command, env={**os.environ, "AWS_ENDPOINT_URL_LAMBDA": f"http://{relay}"})
        except OSError as e:
            print(f"localstack/second-judge: can't run {command[0]}: {e.strerror}", file=sys.stderr)
            return 127
        print(
            f"localstack/second-judge: {Relay.counts['invocations']} invocations by cargo-lambda, "
            f"{Relay.counts['failed']} of them failed; {instances.started} processes of the function",
            file=sys.stderr,
        )
        return status if status >= 0 else 128 - status
    finally:
        if instances:
            instances.stop()
        judge.kill()
        judge.wait()


if __name__ == "__main__":
    sys.exit(main())
