"""Makes the volumes, the same bytes everywhere: `python volumes.py SIZE noisy|clean OUT.zarr`.

Dark objects (60) in a bright rest (180), a third of the voxels: where a field of smoothly joined random numbers is low.
One of them reaches through the whole volume, the others are blobs. The noise on top has a sigma of 20 grey values in
`noisy`, so that a threshold half way finds many specks of one voxel, and of 6 in `clean`, where it finds none. The
field joins itself at the faces, so that a volume laid beside itself looks like a larger one.
"""

from __future__ import annotations

import sys

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from cases import CHUNK

NOISE = {"noisy": 20, "clean": 6}
DARK, BRIGHT = 60, 180
PITCHES = (32, 16)
"""Voxels between the random numbers of the field's two parts: large shapes, and half as large ones."""
LOW = -0.34
"""Below it lies a third of the field."""


def blend(count: int, start: int, stop: int, pitch: int) -> np.ndarray:
    """Weights of `count` numbers in each voxel from `start` to `stop`: between two it goes smoothly from one to the
    other."""
    at = np.arange(start, stop) / pitch
    before = at.astype(int)
    share = at - before
    share = share * share * (3 - 2 * share)
    weights = np.zeros((stop - start, count), np.float32)
    row = np.arange(stop - start)
    weights[row, before % count] = 1 - share
    weights[row, (before + 1) % count] += share
    return weights


def field(size: int, start: int, stop: int) -> np.ndarray:
    """The planes from `start` to `stop` of the field."""
    total = np.zeros((stop - start, size, size), np.float32)
    for pitch in PITCHES:
        count = max(size // pitch, 1)
        numbers = np.random.default_rng(pitch).standard_normal((count, count, count), np.float32)
        along_z = np.tensordot(blend(count, start, stop, pitch), numbers, 1)
        along = blend(count, 0, size, pitch)
        for plane, lattice in zip(total, along_z, strict=True):
            plane += along @ lattice @ along.T
    return total


def slab(size: int, kind: str, start: int, stop: int) -> np.ndarray:
    """The planes from `start` to `stop` of the volume."""
    grey = np.where(field(size, start, stop) < LOW, np.float32(DARK), np.float32(BRIGHT))
    for z, plane in enumerate(grey, start):
        plane += np.random.default_rng([z, NOISE[kind]]).standard_normal(plane.shape, np.float32) * NOISE[kind]
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def make(size: int, kind: str, path: str) -> None:
    array = zarr.create_array(
        path, shape=(size,) * 3, chunks=(CHUNK,) * 3, dtype="uint8", compressors=ZstdCodec(level=3), overwrite=True
    )
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        array[start:stop] = slab(size, kind, start, stop)


if __name__ == "__main__":
    make(int(sys.argv[1]), sys.argv[2], sys.argv[3])
