"""Larger volumes from a small one, by its chunk files alone: nothing is computed and nothing decoded."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

copied = shutil.copyfile
"""A chunk of its own: what a volume of that size takes on a disk."""


def linked(source: Path, target: Path) -> None:
    """The same file under one more name, so that a volume of any size takes no more room than the small one."""
    os.symlink(os.path.relpath(source, target.parent), target)


def shape(volume: Path) -> list[int]:
    return json.loads((volume / "zarr.json").read_text())["shape"]


def repeats(size: int, voxels: float) -> tuple[int, int, int]:
    """How often a cube of `size` is laid along z, y and x for so many voxels, as evenly as may be."""
    times = [1, 1, 1]
    while size**3 * times[0] * times[1] * times[2] < voxels:
        times[times.index(min(times))] += 1
    return times[0], times[1], times[2]


def tile(source: Path, target: Path, repeats: tuple[int, int, int], place: Callable[[Path, Path], object]) -> None:
    """Writes `target`: the chunks of `source`, whose shape is whole chunks, so many times along each axis."""
    metadata = json.loads((source / "zarr.json").read_text())
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    grid = [length // width for length, width in zip(metadata["shape"], chunk, strict=True)]
    for at in itertools.product(*(range(count * times) for count, times in zip(grid, repeats, strict=True))):
        file = target.joinpath("c", *map(str, at))
        file.parent.mkdir(parents=True, exist_ok=True)
        place(source.joinpath("c", *(str(i % count) for i, count in zip(at, grid, strict=True))), file)
    metadata["shape"] = [length * times for length, times in zip(metadata["shape"], repeats, strict=True)]
    (target / "zarr.json").write_text(json.dumps(metadata))
