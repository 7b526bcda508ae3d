"""Compares what programs left of one case: `python verify.py CASE FOLDER ...`; the first is the reference.

Images are equal voxel by voxel, but for what the case allows. Labels are numbered by their first voxels, as ours and
scipy's are, and then are equal, too; so are the rows of the tables.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import zarr

from cases import CASES

SLAB = 1 << 24
"""Voxels that are looked at at a time."""


def image(folder: Path) -> np.ndarray:
    """The voxels of the image that a program left, whatever it calls it."""
    paths = [folder / "labels.zarr" / "0", folder / "result.zarr" / "0", folder / "result.zarr"]
    return zarr.open_array(next(path for path in paths if (path / "zarr.json").exists()), mode="r")[:].ravel()


def first_voxels(labels: np.ndarray) -> np.ndarray:
    """Where each label from 0 on is met first. Filled from the end, so that the first of several stays."""
    first = np.full(int(labels.max()) + 1, len(labels))
    for start in reversed(range(0, len(labels), SLAB)):
        slab = labels[start : start + SLAB]
        first[slab[::-1]] = np.arange(start, start + len(slab))[::-1]
    return first


def by_first_voxel(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels as 1 to n by first voxel, and which label had been each of them."""
    first = first_voxels(labels)
    first[0] = -1
    order = np.argsort(first, kind="stable")
    renamed = np.empty(len(order), np.uint32)
    renamed[order] = np.arange(len(order))
    return renamed[labels], order[1:]


def objects(folder: Path) -> dict[str, np.ndarray]:
    """The table of a program, a row for each label in order of labels, in the peers' columns."""
    if (folder / "objects.npz").exists():
        return dict(np.load(folder / "objects.npz"))
    import pyarrow.parquet as parquet

    table = parquet.read_table(folder / "objects.parquet")
    column = {name: table[name].to_numpy() for name in table.column_names}
    box = [[column[f"bbox_{axis}0"], column[f"bbox_{axis}1"]] for axis in "zyx"]
    return {
        "voxels": column["voxels"],
        "centroid": np.stack([column[f"centroid_{axis}"] for axis in "zyx"], 1),
        "box": np.moveaxis(np.array(box), 2, 0),
        "mean": column["intensity_mean"],
    }


def histogram(folder: Path) -> tuple[list[int], float]:
    """The counts of all 256 values, and the median."""
    found = json.loads((folder / "histogram.json").read_text())
    if "median" in found:
        return found["counts"], found["median"]
    start, counts = int(found["bin_start"]), found["counts"]
    return [0] * start + counts + [0] * (256 - start - len(counts)), found["percentiles"]["50"]


def different(name: str, one: Path, other: Path) -> str | None:
    """What two programs disagree about."""
    case = CASES[name]
    if name == "hist":
        return None if histogram(one) == histogram(other) else "the histograms differ"
    here, there = image(one), image(other)
    if not case.connectivity:
        far = np.abs(here.astype(np.int16) - there)
        wrong = int((far > case.off_by).sum())
        return f"{wrong} voxels differ, by up to {far.max()}" if wrong else None
    (here, rows), (there, other_rows) = by_first_voxel(here), by_first_voxel(there)
    if not np.array_equal(here, there):
        return f"{int((here != there).sum())} voxels are labelled differently"
    table, other_table = objects(one), objects(other)
    for column in table.keys() & other_table.keys():
        if not np.allclose(table[column][rows - 1], other_table[column][other_rows - 1], rtol=1e-9, atol=1e-9):
            return f"the tables differ in {column}"
    return None


def main(name: str, *folders: str) -> None:
    reference, *others = map(Path, folders)
    wrong = {other.name: told for other in others if (told := different(name, reference, other))}
    for other, told in wrong.items():
        print(f"{name}: {other}: {told}")
    print(f"{name}: {len(others) - len(wrong)} of {len(others)} equal {reference.name}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
