#!/usr/bin/env python3
"""Checks compose.yaml against the Compose Specification's schema, as it comes with the docker-compose package. That it
works is not checked here: that takes Docker."""

import importlib.metadata
import json
import pathlib
import unittest

import fastjsonschema
import yaml

HERE = pathlib.Path(__file__).parent


def schema():
    # The package is installed for this one file, without what it would need to run.
    files = importlib.metadata.files("docker-compose")
    file = next(file for file in files if file.name == "compose_spec.json")
    return json.loads(file.locate().read_text())


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Formats of Docker's own, which say nothing about the shape.
        formats = {name: lambda value: True for name in ("duration", "expose", "ports", "subnet_ip_address")}
        cls.validate = staticmethod(fastjsonschema.compile(schema(), formats=formats))
        cls.text = (HERE / "compose.yaml").read_text()

    def test_it_keeps_to_the_schema(self):
        document = yaml.safe_load(self.text)
        # Newer than the schema, which is of 2021.
        self.assertEqual(document.pop("name"), "voxmill-local")
        self.validate(document)
        self.assertIn("localstack/localstack:4.14", document["services"]["lambda"]["image"])
        self.assertIn("minio/minio:", document["services"]["minio"]["image"])

    def test_the_schema_would_find_a_slip(self):
        document = yaml.safe_load(self.text.replace("ports:", "prots:", 1))
        del document["name"]
        with self.assertRaises(fastjsonschema.JsonSchemaException):
            self.validate(document)

    def test_it_says_that_it_was_never_run(self):
        self.assertIn("NEVER RUN", self.text)


if __name__ == "__main__":
    unittest.main()
