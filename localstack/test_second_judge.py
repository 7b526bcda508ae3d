#!/usr/bin/env python3
"""Tests of what second_judge.py makes of cargo-lambda's answers; that the two work together is for the end-to-end test."""

import pathlib
import tempfile
import unittest
from unittest import mock

import second_judge


class Answers(unittest.TestCase):
    def test_a_function_that_failed_is_an_error_of_the_function(self):
        status, headers = second_judge.as_lambda(500, b'{"errorType": "voxmill.Data", "errorMessage": "..."}', {})
        self.assertEqual((status, headers["X-Amz-Function-Error"]), (200, "Unhandled"))

    def test_what_cargo_lambda_itself_refuses_stays_as_it_is(self):
        for status, answer in ((404, b'{"title": "Missing function"}'), (502, b"<html>"), (500, b"[]"), (500, b"3")):
            self.assertEqual(second_judge.as_lambda(status, answer, {})[0], status)
        self.assertNotIn("X-Amz-Function-Error", second_judge.as_lambda(200, b'{"errorType": "none"}', {})[1])

    def test_a_deadline_that_is_long_past_is_moved(self):
        headers = {"lambda-runtime-deadline-ms": "600000", "Lambda-Runtime-Trace-Id": "Root=1"}
        moved = second_judge.with_deadline(headers, 2_000_000_000.5)
        self.assertEqual(moved, {**headers, "lambda-runtime-deadline-ms": "2000000000500"})


class Deployed(unittest.TestCase):
    def test_the_function_is_the_one_of_the_endpoint(self):
        words = ["lambda-endpoint", "--function", "voxmill=/a/bootstrap", "--memory", "512", "--timeout", "60"]
        words += ["--env", "A=1=2", "--env", "B=--x"]
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "lambda.arguments").write_text("\n".join(words) + "\n")
            with mock.patch.object(second_judge, "STATE", pathlib.Path(folder)):
                function = second_judge.deployed()
        self.assertEqual(function["program"], "/a/bootstrap")
        self.assertEqual(function["variables"], {"A": "1=2", "B": "--x"})
        self.assertEqual((function["memory"], function["timeout"]), ("512", "60"))


if __name__ == "__main__":
    unittest.main()
