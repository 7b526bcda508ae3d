#!/usr/bin/env python3
"""Tests of probe.py: the signature against AWS's published example, the race against stores made up here."""

import datetime
import http.server
import os
import socketserver
import threading
import unittest
from unittest import mock

import probe


class Signature(unittest.TestCase):
    def test_it_is_the_one_of_the_published_example(self):
        # "GET Object" in "Signature Calculations for the Authorization Header" of the S3 API reference.
        headers = probe.signed(
            "GET",
            "examplebucket.s3.amazonaws.com",
            "/test.txt",
            [],
            {"Range": "bytes=0-9"},
            b"",
            key="AKIAIOSFODNN7EXAMPLE",
            secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region="us-east-1",
            service="s3",
            now=datetime.datetime(2013, 5, 24),
        )
        self.assertTrue(
            headers["authorization"].endswith(
                "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
                "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            ),
            headers["authorization"],
        )


class Store(http.server.BaseHTTPRequestHandler):
    """A store in memory that heeds If-None-Match, or doesn't."""

    protocol_version = "HTTP/1.1"
    heeds = True
    lock = threading.Lock()
    objects = {}

    def reply(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            if self.heeds and self.headers.get("If-None-Match") == "*" and self.path in self.objects:
                return self.reply(412)
            self.objects[self.path] = body
        self.reply(200)

    def do_GET(self):
        with self.lock:
            body = self.objects.get(self.path)
        self.reply(404 if body is None else 200, body or b"")

    def do_DELETE(self):
        with self.lock:
            self.objects.pop(self.path, None)
        self.reply(204)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingTCPServer):
    # Not an HTTPServer, which asks the network for its own name.
    daemon_threads = True
    request_queue_size = 128


class Race(unittest.TestCase):
    def run_race(self, heeds):
        server = Server(("127.0.0.1", 0), type("Asked", (Store,), {"heeds": heeds, "objects": {}}))
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1",
        }
        with mock.patch.dict(os.environ, variables):
            return probe.make_bucket("b"), probe.race("b", 50)

    def test_a_store_that_lets_one_win_is_taken(self):
        self.assertEqual(self.run_race(True), (None, None))

    def test_a_store_that_lets_all_win_is_refused(self):
        self.assertEqual(self.run_race(False), (None, "of 50 conditional creates of one object 50 succeeded"))


class Ports(unittest.TestCase):
    def test_they_differ_and_are_free(self):
        ports = probe.free_ports(12)
        self.assertEqual(len(set(ports)), 12)
        self.assertTrue(all(probe.is_free(port) for port in ports))


if __name__ == "__main__":
    unittest.main()
