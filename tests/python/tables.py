"""The tables as people ask them: of voxels with a size, read by DuckDB and by pandas, against numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import compare
import duckdb
import images
import numpy as np
import objects
import pandas as pd
import reference
from jobs import contacts_of
from program import Outputs, Voxmill

SIZES = [2.0, 0.5, 0.25]
STEPS = "threshold above=230 | label connectivity=6 contacts=26 save=cells"


def physical(labels: np.ndarray, intensity: np.ndarray, sizes: list[float]) -> pd.DataFrame:
    """The object table where voxels have a size and their axes a unit."""
    table = objects.table(labels, intensity)
    centres = pd.DataFrame(np.argwhere(labels) * sizes).groupby(labels[labels != 0])
    shapes = [objects.shape(of_one.to_numpy()) for _, of_one in centres]
    for name in shapes[0]:
        table[name] = [shape[name] for shape in shapes]
    table["volume"] = table["voxels"] * np.prod(sizes)
    for axis, size in zip(objects.AXES[labels.ndim], sizes):
        table[f"physical_centroid_{axis}"] = table[f"centroid_{axis}"] * size
    return table


def measured(voxmill: Voxmill, folder: Path, unit: str) -> tuple[Outputs, pd.DataFrame, np.ndarray]:
    """A run over the nuclei, the table it should leave, and its labels."""
    voxels = images.load("nuclei")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", voxels)
    size = ",".join(map(str, SIZES)) + unit
    voxmill.call("import", str(folder / "image.npy"), str(folder / "image.zarr"), "--quiet", "--voxel-size", size)
    out = voxmill.run(folder / "image.zarr", folder / "out", STEPS, ("--chunks", "16", "--shards", "none"))
    labels = reference.answer(voxels, STEPS.replace(" contacts=26", "").replace(" save=cells", "")).voxels
    return out, physical(labels, voxels, SIZES), labels


def wrong_sizes(voxmill: Voxmill, folder: Path, unit: str) -> str | None:
    """Volumes, places and shapes in the unit of the voxels."""
    out, wanted, _ = measured(voxmill, folder, unit)
    found = out.table()
    if list(found.columns) != list(wanted.columns):
        return f"the table's columns are {', '.join(found.columns)}; expected {', '.join(wanted.columns)}"
    return compare.wrong_columns(found, wanted, "numpy")


def wrong_in_duckdb(voxmill: Voxmill, folder: Path) -> str | None:
    """Every table as DuckDB and pandas read it, and a question over two of them."""
    out, wanted, labels = measured(voxmill, folder, "um")
    with duckdb.connect() as ask:
        for name in ("objects", "cells", "contacts", "cells-contacts"):
            path = out.folder / f"{name}.parquet"
            theirs = ask.execute("select * from read_parquet(?)", [str(path)]).df()
            try:
                pd.testing.assert_frame_equal(theirs, out.parquet(name), check_dtype=True)
            except AssertionError as error:
                return f"{name}.parquet differs between DuckDB and pandas: {error}"
        rows = ask.execute(
            """select o.label, sum(c.pairs) from read_parquet(?) o
               join read_parquet(?) c on o.label in (c.label_a, c.label_b) group by o.label order by o.label""",
            [str(out.folder / "objects.parquet"), str(out.folder / "contacts.parquet")],
        ).fetchall()
    touching: dict[int, int] = {}
    for a, b, _, pairs in contacts_of(labels, 26):
        touching[a], touching[b] = touching.get(a, 0) + pairs, touching.get(b, 0) + pairs
    if not touching or rows != sorted(touching.items()):
        return f"voxel pairs with neighbours are {rows[:3]}..., expected {sorted(touching.items())[:3]}..."
    return compare.wrong_columns(theirs_of(out), wanted, "numpy")


def theirs_of(out: Outputs) -> pd.DataFrame:
    """`objects.parquet` by DuckDB."""
    with duckdb.connect() as ask:
        return ask.execute("select * from read_parquet(?)", [str(out.folder / "objects.parquet")]).df()


def work_list(voxmill: Voxmill) -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Every case by name, with what judges it in a folder."""
    for unit in ("um", "mm"):
        yield f"table: voxels of {SIZES} {unit}", lambda folder, unit=unit: wrong_sizes(voxmill, folder, unit)
    yield "table: DuckDB reads all of them", lambda folder: wrong_in_duckdb(voxmill, folder)
