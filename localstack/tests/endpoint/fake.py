#!/usr/bin/env python3
"""A function that does what its payload says: {"do": WORD, ...}. It speaks the Runtime API with the standard library only,
so that it shares nothing with the endpoint it is served by."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

# On Lambda an address; cargo-lambda gives a URL.
API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API'].removeprefix('http://')}/2018-06-01/runtime"
CALLS = 0


def call(path, body=None, headers={}):
    request = urllib.request.Request(API + path, data=body, headers=headers)
    with urllib.request.urlopen(request) as reply:
        return dict(reply.headers), reply.read()


def answer(event, headers):
    word = event.get("do", "echo")
    if word == "echo":
        return {"event": event, "calls": CALLS, "pid": os.getpid()}
    if word == "headers":
        return {name.lower(): value for name, value in headers.items() if name.lower().startswith("lambda-")}
    if word == "env":
        return dict(os.environ)
    if word == "print":
        for n in range(event["lines"]):
            print(f"line {n}", flush=True)
        return {}
    if word == "sleep":
        time.sleep(event["s"])
        return {"calls": CALLS}
    if word == "exit":
        print("about to exit", flush=True)
        os._exit(event["code"])
    if word == "abort":
        os.abort()
    if word == "grow":
        block = bytearray(event["mb"] << 20)
        block[:: 4096] = b"x" * len(block[:: 4096])
        time.sleep(event.get("s", 0))
        return {}
    if word == "big":
        return "x" * event["bytes"]
    raise ValueError(f"no such word: {word}")


def main():
    global CALLS
    start = os.environ.get("FAKE_START", "")
    print("fake function starts", flush=True)
    if start == "hang once" and not os.path.exists(os.environ["FAKE_MARK"]):
        open(os.environ["FAKE_MARK"], "w").close()
        time.sleep(600)
    if start == "exit":
        sys.exit(7)
    if start == "error":
        body = json.dumps({"errorType": "Fake.Start", "errorMessage": "no start"}).encode()
        call("/init/error", body, {"Lambda-Runtime-Function-Error-Type": "Fake.Start"})
        sys.exit(1)
    if os.environ.get("FAKE_BACKGROUND"):
        # Works on between invocations, if it is let.
        import threading

        def tick():
            while True:
                time.sleep(0.01)
                with open(os.environ["FAKE_BACKGROUND"], "a") as file:
                    file.write(".")

        threading.Thread(target=tick, daemon=True).start()
    while True:
        headers, payload = call("/invocation/next")
        CALLS += 1
        request = {name.lower(): value for name, value in headers.items()}["lambda-runtime-aws-request-id"]
        try:
            path, body, extra = "response", json.dumps(answer(json.loads(payload), headers)).encode(), {}
        except Exception as e:
            path, extra = "error", {"Lambda-Runtime-Function-Error-Type": "Fake.Error"}
            body = json.dumps({"errorType": "Fake.Error", "errorMessage": str(e)}).encode()
        try:
            call(f"/invocation/{request}/{path}", body, extra)
        except urllib.error.HTTPError as e:
            print(f"the answer was refused: {e.code}", flush=True)


main()
