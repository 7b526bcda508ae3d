"""`build` and `deploy`: what they pack and refuse, and what they would ask of AWS. No Rust is built and nothing is sent: the
binary is any program, and `aws` is a stand-in that writes down how it was called."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

INFRA = Path(__file__).resolve().parents[1]

# Which answers the stand-in gives; everything it was asked goes to a file, a line a call.
AWS = r"""#!/bin/sh
printf '%s\n' "$*" >>"$CALLS"
case "$*" in
*get-caller-identity*) echo 111122223333 ;;
*head-bucket*) case " $BUCKETS " in *" $4 "*) ;; *) exit 254 ;; esac ;;
*Stacks\[0\].Parameters*) [ -n "$STACK" ] || exit 254; printf "$STACK" ;;
*\'Environment\'*) printf 'export AWS_REGION=eu-central-1\nexport VOXMILL_FUNCTION=voxmill:live\n' ;;
*\'CallerPolicyArn\'*) echo arn:aws:iam::111122223333:policy/caller ;;
*\'Command\'*) echo voxmill run ;;
*"cloudformation package"*) [ "$FAIL" != package ] || exit 1 ;;
*"cloudformation deploy"*) echo "Successfully created" ;;
esac
"""


def elf(machine: int) -> bytes:
    """The head of a static program for a machine, with nothing in it: as much as `readelf` wants."""
    head = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    return head + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)


class Scripts(unittest.TestCase):
    """A folder of its own, with a copy of the scripts in it."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        (self.root / "infra").mkdir()
        for name in ("build", "deploy", "template.yaml"):
            shutil.copy(INFRA / name, self.root / "infra" / name)
        self.calls = self.root / "calls"
        self.environment = {**os.environ, "CALLS": str(self.calls), "AWS_REGION": "eu-central-1"}
        self.environment.pop("VOXMILL_CODE_BUCKET", None)

    def run_script(self, name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        command = [str(self.root / "infra" / name), *map(str, arguments)]
        return subprocess.run(command, env={**self.environment, **environment}, capture_output=True, text=True)

    def binary(self, content: bytes) -> Path:
        path = self.root / "program"
        path.write_bytes(content)
        return path


@unittest.skipUnless(shutil.which("readelf"), "readelf is not here")
class Build(Scripts):
    def packed(self, program: bytes) -> tuple[subprocess.CompletedProcess, Path]:
        done = self.run_script("build", "--binary", self.binary(program))
        return done, self.root / "infra" / "dist" / "function.zip"

    def test_a_zip_holds_the_program_as_lambda_starts_it(self) -> None:
        done, path = self.packed(elf(62))
        self.assertEqual(done.returncode, 0, done.stderr)
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(archive.namelist(), ["bootstrap"])
            self.assertEqual(archive.read("bootstrap"), elf(62))
            self.assertEqual(stat.filemode(archive.getinfo("bootstrap").external_attr >> 16), "-rwxr-xr-x")
        packed = path.read_bytes()
        self.assertIn(f"CodeSha256    {base64.b64encode(hashlib.sha256(packed).digest()).decode()}", done.stdout)
        self.assertIn(f"zipped        {len(packed):,} bytes", done.stdout)
        self.assertIn("architecture  x86_64", done.stdout)

    def test_the_same_program_gives_the_same_zip(self) -> None:
        first = self.packed(elf(62))[1].read_bytes()
        os.utime(self.root / "program", (0, 0))
        self.assertEqual(self.packed(elf(62))[1].read_bytes(), first)
        self.assertNotEqual(self.packed(elf(62) + b"x")[1].read_bytes(), first)

    def test_the_architecture_is_that_of_the_program(self) -> None:
        self.assertIn("architecture  arm64", self.packed(elf(183))[0].stdout)
        done, _ = self.packed(elf(8))
        self.assertEqual(done.returncode, 2)
        self.assertIn("neither for x86_64 nor for arm64", done.stderr)

    def test_what_lambda_could_not_start_is_refused(self) -> None:
        done, _ = self.packed(b"#!/bin/sh\n")
        self.assertEqual((done.returncode, "is not a program for Linux" in done.stderr), (2, True), done.stderr)
        done = self.run_script("build", "--binary", self.root / "nowhere")
        self.assertEqual((done.returncode, "there is no file" in done.stderr), (2, True), done.stderr)

    @unittest.skipUnless(shutil.which("cc"), "there is no C compiler here")
    def test_a_library_or_a_glibc_that_lambda_lacks_is_refused(self) -> None:
        source = self.root / "program.c"
        source.write_text("int main(void) { return 0; }\n")
        subprocess.run(["cc", source, "-o", self.root / "plain"], check=True)
        done = self.run_script("build", "--binary", self.root / "plain")
        self.assertEqual(done.returncode, 0, done.stderr)
        # The same program, were there a library of ours beside it.
        (self.root / "lib.c").write_text("int odd(void) { return 1; }\n")
        subprocess.run(["cc", "-shared", self.root / "lib.c", "-o", self.root / "libodd.so"], check=True)
        source.write_text("int odd(void); int main(void) { return odd(); }\n")
        subprocess.run(["cc", source, "-o", self.root / "odd", f"-L{self.root}", "-lodd"], check=True)
        done = self.run_script("build", "--binary", self.root / "odd")
        self.assertEqual((done.returncode, "needs libodd.so" in done.stderr), (2, True), done.stderr)
        # And the plain one, did it ask for a version that nobody has yet.
        old = (self.root / "plain").read_bytes()
        if b"GLIBC_2.34\0" not in old:
            self.skipTest("the C compiler here asks for another glibc")
        (self.root / "new").write_bytes(old.replace(b"GLIBC_2.34\0", b"GLIBC_2.99\0"))
        done = self.run_script("build", "--binary", self.root / "new")
        self.assertEqual((done.returncode, "needs glibc 2.99" in done.stderr), (2, True), done.stderr)

    def test_options_that_make_no_sense(self) -> None:
        for arguments in (["--binary"], ["--odd", "x"], ["--binary", "a", "--target", "b"]):
            self.assertEqual(self.run_script("build", *arguments).returncode, 2, arguments)


class Deploy(Scripts):
    INPUT, OUTPUT = "s3://lab/scans/", "s3://lab-voxmill/runs/"

    def setUp(self) -> None:
        super().setUp()
        (self.root / "bin").mkdir()
        aws = self.root / "bin" / "aws"
        aws.write_text(AWS)
        aws.chmod(0o755)
        self.environment["PATH"] = f"{aws.parent}:{Path(sys.executable).parent}:{self.environment['PATH']}"
        (self.root / "infra" / "dist").mkdir()
        self.zip(183)

    def zip(self, machine: int) -> None:
        with zipfile.ZipFile(self.root / "infra" / "dist" / "function.zip", "w") as archive:
            archive.writestr("bootstrap", elf(machine))

    def asked(self, of: str) -> list[str]:
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [call for call in calls if of in call]

    def deployed(self, *arguments: str, **environment: str) -> str:
        """How the stack was deployed."""
        self.calls.unlink(missing_ok=True)
        done = self.run_script("deploy", "voxmill", self.INPUT, self.OUTPUT, *arguments, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        # What goes into the shell, and nothing else.
        self.assertEqual(done.stdout, "export AWS_REGION=eu-central-1\nexport VOXMILL_FUNCTION=voxmill:live\n")
        (call,) = self.asked("cloudformation deploy")
        return call

    def test_a_new_stack(self) -> None:
        call = self.deployed("MemoryMiB=1769")
        for part in (
            "--stack-name voxmill",
            "CAPABILITY_IAM",
            "InputBucket=lab InputPrefix=scans/ OutputBucket=lab-voxmill OutputPrefix=runs/",
            "MakeBucket=true",
            "Architecture=arm64",
            "MemoryMiB=1769",
        ):
            self.assertIn(part, call)
        (made,) = self.asked("create-bucket")
        self.assertIn("--bucket voxmill-code-111122223333-eu-central-1", made)
        self.assertIn("LocationConstraint=eu-central-1", made)
        self.assertIn("RestrictPublicBuckets=true", self.asked("put-public-access-block")[0])

    def test_the_region_without_a_name(self) -> None:
        self.deployed(AWS_REGION="us-east-1")
        self.assertNotIn("LocationConstraint", self.asked("create-bucket")[0])

    def test_a_bucket_that_is_there_is_not_made(self) -> None:
        self.assertIn("MakeBucket=false", self.deployed(BUCKETS="lab-voxmill"))
        self.deployed(VOXMILL_CODE_BUCKET="mine", BUCKETS="mine")
        self.assertEqual(self.asked("create-bucket"), [])

    def test_a_bucket_that_the_stack_has_made_stays_its_own(self) -> None:
        for stack, wanted in (
            (r"MakeBucket\ttrue\nOutputBucket\tlab-voxmill\n", "true"),
            (r"OutputBucket\tlab-voxmill\nMakeBucket\ttrue\n", "true"),
            (r"MakeBucket\tfalse\nOutputBucket\tlab-voxmill\n", "false"),
            (r"MakeBucket\ttrue\nOutputBucket\tlab-voxmill2\n", "false"),
        ):
            call = self.deployed(BUCKETS="lab-voxmill", STACK=stack)
            self.assertIn(f"MakeBucket={wanted}", call, stack)

    def test_a_whole_bucket_may_be_the_input(self) -> None:
        self.INPUT = "s3://scans-of-the-lab/"
        self.assertIn("InputBucket=scans-of-the-lab InputPrefix= OutputBucket=lab-voxmill", self.deployed())

    def test_what_is_refused_asks_nothing_of_aws(self) -> None:
        for word, *arguments in (
            ("are needed", "voxmill", self.INPUT),
            ("end in /", "voxmill", "s3://lab/scans", self.OUTPUT),
            ("not a place in S3", "voxmill", "/data/", self.OUTPUT),
            ("inside the output", "voxmill", "s3://lab/runs/scans/", "s3://lab/runs/"),
            ("inside the output", "voxmill", "s3://lab/runs/", "s3://lab/runs/"),
            ("inside the input", "voxmill", "s3://lab/", "s3://lab/runs/"),
            ("name of a function", "my_stack", self.INPUT, self.OUTPUT),
            ("not PARAMETER=VALUE", "voxmill", self.INPUT, self.OUTPUT, "--memory"),
        ):
            done = self.run_script("deploy", *arguments)
            self.assertEqual((done.returncode, word in done.stderr, done.stdout), (2, True, ""), done.stderr)
        (self.root / "infra" / "dist" / "function.zip").unlink()
        done = self.run_script("deploy", "voxmill", self.INPUT, self.OUTPUT)
        self.assertEqual((done.returncode, "make it with infra/build" in done.stderr), (2, True), done.stderr)
        self.assertFalse(self.calls.exists())

    def test_a_step_that_fails_ends_it(self) -> None:
        done = self.run_script("deploy", "voxmill", self.INPUT, self.OUTPUT, FAIL="package")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual((done.stdout, self.asked("cloudformation deploy")), ("", []))


# A voxmill that computes nothing: what a run leaves is a hash of its input. `s3://` is the folder $S3, for both programs.
VOXMILL = r"""
import hashlib, os, pathlib, shutil, sys, time

arguments = sys.argv[2:]
paths = [pathlib.Path(a.replace("s3://", os.environ["S3"] + "/")) for a in arguments]
after = {a: p for a, p in zip(arguments, paths[1:])}
match sys.argv[1]:
    case "import":
        for chunk in ("c/0/0/0", "c/1/1/1", "c/3/2/0"):
            path = paths[1] / "0" / chunk
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(chunk)
    case "plan":
        print("price      $0.01")
    case "run":
        if os.environ.get("VOXMILL_FUNCTION") == "voxmill-that-is-not-there":
            if os.environ.get("FAULT") == "function":
                sys.exit(0)
            print("error: no such function", file=sys.stderr)
            sys.exit(2)
        output = after["-o"]
        if (output / "run.json").exists():
            sys.exit(print("already done", file=sys.stderr))
        receipts = output / ".voxmill" / "receipts"
        receipts.mkdir(parents=True, exist_ok=True)
        for n in range(5):
            (receipts / str(n)).write_text("")
            time.sleep(0.5 if "--segment" in arguments else 0.1 * ("--workers" in arguments))
        files = sorted(p for p in paths[0].rglob("*") if p.is_file())
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
        if os.environ.get("FAULT") == "bytes" and "lambda" in arguments:
            digest = "another"
        (output / "labels.zarr").mkdir(exist_ok=True)
        (output / "labels.zarr" / "zarr.json").write_text(digest)
        (output / "run.json").write_text(str(time.time()))
    case "verify":
        sys.exit(not (paths[0] / "run.json").exists())
    case "info":
        print("error: no such bucket, or no credentials", file=sys.stderr)
        sys.exit(2)
"""
AWS_S3 = r"""#!/bin/bash
at() { printf '%s' "${1/s3:\/\//$S3/}"; }
from=$(at "${@: -2:1}") to=$(at "${@: -1}")
case "$1 $2" in
"s3 cp") mkdir -p "$to" && cp -r "$from/." "$to" ;;
"s3 ls") find "$to" -type f ;;
esac
"""


class Prove(Scripts):
    """The rehearsal, with stand-ins for both programs: that the script says what it saw."""

    def rehearse(self, **environment: str) -> subprocess.CompletedProcess:
        for name, text in (("voxmill", f"#!{sys.executable}{VOXMILL}"), ("aws", AWS_S3)):
            path = self.root / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        return subprocess.run(
            [INFRA / "prove", "--here", "--work", self.root / "work"],
            env={
                **self.environment,
                "PATH": f"{self.root / 'bin'}:{self.environment['PATH']}",
                "VOXMILL": str(self.root / "bin" / "voxmill"),
                "S3": str(self.root / "s3"),
                "AWS_ENDPOINT_URL_S3": "http://localhost:1",
                "VOXMILL_FUNCTION": "voxmill",
                "VOXMILL_BUCKET": "bucket",
                **environment,
            },
            capture_output=True,
            text=True,
        )

    def test_what_is_right_passes(self) -> None:
        done = self.rehearse()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("passed   killed after", done.stdout)
        self.assertIn("passed   gone on after a kill: its bytes", done.stdout)
        self.assertRegex(done.stdout, r"\n15 passed, 0 failed, 2 skipped\n$")

    def test_what_is_wrong_fails(self) -> None:
        done = self.rehearse(FAULT="bytes")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("FAILED   calm: its bytes are those of the run on disk", done.stdout)
        self.assertIn("FAILED   gone on after a kill: its bytes", done.stdout)
        self.assertIn("passed   calm: a run on Lambda ends", done.stdout)
        done = self.rehearse(FAULT="function")
        self.assertIn("FAILED   a function that is not there: exit code 0 instead of 2", done.stdout)

    def test_nothing_is_done_without_an_endpoint(self) -> None:
        done = self.rehearse(VOXMILL_BUCKET="")
        self.assertEqual((done.returncode, "localstack/up" in done.stderr), (2, True), done.stderr)


if __name__ == "__main__":
    unittest.main()
