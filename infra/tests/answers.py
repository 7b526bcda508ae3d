"""What the function is to be answered: the request, the key in a bucket of which it may read `lab/scans/` and write
`lab/runs/`, and S3's status. `policy.py` asks our own evaluator, `infra/prove` asks IAM:

    python3 answers.py BUCKET       a line for each: action, resource, prefix (- for none), yes or no
"""

from __future__ import annotations

import sys
from typing import Iterator

SCAN, RUN = "lab/scans/foam.zarr", "lab/runs/foam"
ANSWERS: list[tuple[str, str | None, int]] = [
    ("get", f"{SCAN}/0/c/0/0/0", 200),
    ("get", f"{SCAN}/0/c/9/9/9", 404),
    ("get", f"{RUN}/labels.zarr/zarr.json", 200),
    ("get", f"{RUN}/.voxmill/receipts/s/000000000000.json", 404),
    ("get", "lab/secret", 403),
    ("get", "lab/scans2/foam.zarr/zarr.json", 403),
    ("get", "lab2/scans/foam.zarr/zarr.json", 403),
    ("get", "lab2/runs/foam/run.json", 403),
    ("put", f"{RUN}/labels.zarr/0/c/0/0/0", 200),
    ("put", f"{RUN}/.voxmill/receipts/s/000000000000.json", 200),
    ("put", f"{SCAN}/0/c/0/0/0", 403),
    ("put", f"{SCAN}/labels/zarr.json", 403),
    ("put", "lab/scans2/a", 403),
    ("put", "lab/runs2/a", 403),
    ("put", "lab2/runs/a", 403),
    ("put", "a", 403),
    ("delete", f"{RUN}/.voxmill/scratch/s/000000000000", 204),
    ("delete", f"{SCAN}/zarr.json", 403),
    ("delete", "lab/runs2/a", 403),
    ("list", f"{RUN}/.voxmill/receipts/s/", 200),
    ("list", "lab/runs/", 200),
    ("list", f"{SCAN}/", 200),
    ("list", "lab/", 403),
    ("list", "lab/runs2/", 403),
    ("list", "lab2/", 403),
    ("list", "", 403),
    ("list", None, 403),
]
MISSING = [key for verb, key, status in ANSWERS if status == 404]
# The keys there are: every other one that is read.
THERE = [f"bucket/{key}" for verb, key, _ in ANSWERS if verb == "get" and key not in MISSING]

ACTIONS = {"get": "s3:GetObject", "put": "s3:PutObject", "delete": "s3:DeleteObject", "list": "s3:ListBucket"}


def lines(bucket: str) -> Iterator[str]:
    """The requests as IAM's simulator takes them."""
    for verb, key, status in ANSWERS:
        at = f"arn:aws:s3:::{bucket}"
        prefix = "-"
        if verb != "list":
            at += f"/{key}"
        elif key:
            prefix = key
        # The simulator knows no empty prefix; it is none.
        yield "\t".join((ACTIONS[verb], at, prefix, "no" if status == 403 else "yes"))


if __name__ == "__main__":
    print("\n".join(lines(sys.argv[1])))
