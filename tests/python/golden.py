"""The frozen answers: what the judges said of the real crops when tests/golden was made.

They hold both sides to it: a new version of a judge that answers differently is noticed, and so is a program that
agrees with a judge gone wrong. Written by tests/golden/make.py.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import histogram
import images
import numpy as np
import objects
import pandas as pd
import reference

ANSWERS = Path(__file__).resolve().parent.parent / "golden" / "answers"

IMAGES = ("median size=3", "threshold percentile=75 | close ball=2", "threshold percentile=90 | label connectivity=18")
"""Jobs whose voxels are frozen, as a checksum, for every crop."""

TABLE = "threshold percentile=75 | open ball=1 | label connectivity=26 min_voxels=20"
"""The job whose object table is frozen, in full, for every crop."""

JUDGES = ("connected-components-3d", "numpy", "scikit-image", "scipy")


def checksum(voxels: np.ndarray) -> str:
    """SHA-256 of the shape, the type and the voxels in C order, little-endian; bool counts as uint8."""
    voxels = voxels.astype(np.uint8) if voxels.dtype == bool else voxels
    head = f"{voxels.dtype.name} {'x'.join(map(str, voxels.shape))}\n".encode()
    little = np.ascontiguousarray(voxels).astype(voxels.dtype.newbyteorder("<"))
    return hashlib.sha256(head + little.tobytes()).hexdigest()


def answers(name: str) -> tuple[dict, pd.DataFrame]:
    """What the judges say of a crop today."""
    voxels = images.load(name)
    otsu, _ = reference.otsu(voxels)
    labels = reference.answer(voxels, TABLE).voxels
    found = {
        "otsu": otsu,
        "percentiles": histogram.percentiles(voxels),
        "labels": checksum(labels),
        "images": {steps: checksum(reference.answer(voxels, steps).voxels) for steps in IMAGES},
    }
    return found, objects.table(labels, voxels)


def freeze() -> None:
    """Writes the answers of today."""
    ANSWERS.mkdir(exist_ok=True)
    frozen = {"judges": {name: version(name) for name in JUDGES}, "crops": {}}
    for name in images.crops():
        frozen["crops"][name], table = answers(name)
        table.to_csv(ANSWERS / f"{name}.csv", index=False)
    (ANSWERS / "answers.json").write_text(json.dumps(frozen, indent=1) + "\n")


def frozen(name: str) -> tuple[dict, pd.DataFrame]:
    """What was written for a crop."""
    table = pd.read_csv(ANSWERS / f"{name}.csv", float_precision="round_trip")
    return json.loads((ANSWERS / "answers.json").read_text())["crops"][name], table
