"""The images that cases run on: crops of real volumes (tests/golden/data), what is derived from them to reach other
types and shapes, and a few made up to be hard; and the volume of the examples. All small, all the same on every
machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import tifffile

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
CROPS = Path(__file__).resolve().parent.parent / "golden" / "data"
SEED = 20


@cache
def load(name: str) -> np.ndarray:
    """The image of that name, not to be written to."""
    image = DERIVED[name]() if name in DERIVED else np.load(CROPS / f"{name}.npy")
    image.flags.writeable = False
    return image


def crops() -> list[str]:
    """The names of the real crops."""
    return sorted(path.stem for path in CROPS.glob("*.npy"))


def as_type(dtype: str) -> np.ndarray:
    """The nuclei, which have 250 grey values, spread over what a type can hold: below 0, beyond 2^53, fractions."""
    grey = load("nuclei").astype(np.int64) - 104
    spread = {
        "bool": grey > 90,
        "uint8": grey.clip(0, 255),
        "int8": (grey - 128).clip(-128, 127),
        "uint16": grey * 240,
        "int16": grey * 240 - 32_768,
        "uint32": grey * 15_000_000,
        "int32": grey * 15_000_000 - 2**31,
        "uint64": grey.astype(np.uint64) * np.uint64(2**55) + np.uint64(2**53 + 1),
        "int64": grey * 2**54 - 2**61 - 1,
        "float32": grey / 7 - 11,
        "float64": grey / 7 - 11,
    }
    return spread[dtype].astype(dtype)


def broken() -> np.ndarray:
    """The diffusion image with a few dozen NaN and infinities in it."""
    image = load("diffusion").copy()
    at = np.random.default_rng(SEED).choice(image.size, 60, replace=False)
    image.flat[at[:30]], image.flat[at[30:45]], image.flat[at[45:]] = np.nan, np.inf, -np.inf
    return image


def speckle() -> np.ndarray:
    """Noise near the density at which components percolate: thousands of small ones, and long branching ones."""
    return (np.random.default_rng(SEED).random((37, 41, 43)) < 0.3).astype(np.uint8)


def snake() -> np.ndarray:
    """One thread, a voxel thick, that runs to and fro through the whole volume: one object, whose parts in a block know
    nothing of each other until the last merge. Beside it, at one corner, a second thread it only meets diagonally."""
    image = np.zeros((33, 33, 34), np.uint8)
    image[::2, ::2, :33] = 1
    for z in range(0, 33, 2):
        for y in range(0, 31, 2):
            image[z, y + 1, 32 if (y // 2) % 2 == 0 else 0] = 1
    for z in range(0, 31, 2):
        image[z + 1, 32 if (z // 2) % 2 == 0 else 0, 32 if (z // 2) % 2 == 0 else 0] = 1
    image[31, 31, 33] = 1
    return image


def corners() -> np.ndarray:
    """Pairs of voxels that touch only by an edge or a corner, with that contact right where blocks of 16 meet."""
    image = np.zeros((40, 40, 40), np.uint8)
    for z, y, x in ((16, 16, 16), (32, 16, 32), (16, 32, 5), (8, 16, 32)):
        image[z, y, x] = 1
        image[z - 1, y - 1, x - 1] = 1
    image[16, 8, 16] = image[15, 8, 15] = 1
    image[24, 32, 16] = image[24, 31, 15] = 1
    return image


def region_of_interest(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid, marked by another number in each half, with a hole that no face of the volume is near."""
    at = [np.linspace(-1, 1, n).reshape([-1 if a == axis else 1 for a in range(len(shape))]) for axis, n in enumerate(shape)]
    square = sum(x * x for x in at) + np.zeros(shape)
    marked = np.where(at[-1] + np.zeros(shape) < 0, 3, 7)
    return np.where((square < 0.9) & (square > 0.02), marked, 0).astype(np.uint16)


DERIVED = {
    "example": lambda: tifffile.imread(EXAMPLES / "bone.tif"),
    "slice": lambda: load("cement")[20].copy(),
    "atlas_slice": lambda: load("atlas")[20].copy(),
    "diffusion_slice": lambda: load("diffusion")[11].copy(),
    "plane": lambda: load("cement")[20:21].copy(),
    "row": lambda: load("cement")[7:8, 9:10].copy(),
    "voxel": lambda: load("cement")[7:8, 9:10, 11:12].copy(),
    "zeros": lambda: np.zeros((17, 18, 19), np.uint8),
    "ones": lambda: np.ones((17, 18, 19), np.uint8),
    "nothing_finite": lambda: np.full((5, 6, 7), np.nan, np.float32),
    "broken": broken,
    "speckle": speckle,
    "snake": snake,
    "corners": corners,
    "cement_roi": lambda: region_of_interest(load("cement").shape),
    "cement_nothing": lambda: np.zeros(load("cement").shape, np.uint8),
    "cement_other": lambda: (load("cement")[::-1].astype(np.float32) - 80) / 7,
    "signed_atlas": lambda: load("atlas").astype(np.int16) * 3 - 9,
    **{
        dtype: (lambda dtype=dtype: as_type(dtype))
        for dtype in "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64".split()
    },
}
