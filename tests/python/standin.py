"""A stand-in for voxmill that computes with the reference itself, to judge the judge: honest it has to pass, and with a
fault put into what it leaves behind it has to be caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import histogram
import numpy as np
import objects
import reference
import zarr
from cases import LAYOUTS
from inputs import multiscales
from program import Outputs


@dataclass(frozen=True)
class StandIn:
    """Speaks like program.Voxmill. A fault changes the parts of an answer in place before they are written."""

    fault: Callable[[dict], None] = lambda parts: None
    only_in: str = "whole even odd cut"
    """The layouts in which the fault shows, by the block that the run was asked for; the matrix's own is `cut`."""
    blocks: dict[str, str] = field(
        default_factory=lambda: {layout.run_flags[5]: layout.name for of_axes in LAYOUTS.values() for layout in of_axes}
    )

    def call(self, *words: str) -> str:
        """Knows `import SRC.npy DEST` only."""
        _, source, image, *_ = words
        write_image(Path(image), np.load(source))
        return ""

    def run(self, image: Path, out: Path, steps: str, flags: tuple[str, ...] = ()) -> Outputs:
        """One job on a whole image, without the region and the like."""
        stored = zarr.open(image, mode="r")
        voxels = (stored if isinstance(stored, zarr.Array) else stored["0"])[...]
        parts = answer(voxels, steps)
        if self.blocks.get(flags[5], "cut") in self.only_in:
            self.fault(parts)
        out.mkdir(parents=True)
        (out / "run.json").write_text("{}")
        (out / "histogram.json").write_text(json.dumps(parts["histogram"]))
        for name in ("result", "labels"):
            if name in parts:
                write_image(out / f"{name}.zarr", parts[name])
        if "table" in parts:
            parts["table"].to_parquet(out / "objects.parquet", index=False)
        return Outputs(out)


def answer(voxels: np.ndarray, steps: str) -> dict:
    """What a job leaves, by name: `result` or `labels`, `table`, `histogram`."""
    found = reference.answer(voxels, steps)
    parts = {"histogram": report(voxels)}
    if found.kind == "image" and steps:
        parts["result"] = found.voxels.astype(np.uint8) if found.voxels.dtype == bool else found.voxels.copy()
    if found.kind == "labels":
        parts["labels"] = found.voxels.copy()
    if found.kind in ("labels", "objects"):
        table = objects.table(found.voxels, None if steps == "objects" else voxels)
        unsigned = {"label", "voxels", "surface_faces", "border_faces"}
        parts["table"] = table.astype({name: "uint64" for name in unsigned})
    return parts


def report(voxels: np.ndarray) -> dict:
    """histogram.json of an image of narrow integers."""
    low = int(voxels.min())
    return {
        "of": "input",
        "dtype": voxels.dtype.name,
        "voxels": voxels.size,
        "finite": voxels.size,
        **dict.fromkeys(("nan", "posinf", "neginf"), 0),
        "min": low,
        "max": int(voxels.max()),
        **histogram.moments(voxels),
        "percentiles": histogram.percentiles(voxels),
        "counts": np.bincount(voxels.ravel() - low).tolist(),
        "bin_start": low,
        "bin_width": 1,
        "exact": True,
        "otsu": reference.otsu(voxels)[0],
    }


def write_image(path: Path, voxels: np.ndarray) -> None:
    """An OME-Zarr 0.5 image of one level."""
    axes = "zyx"[-voxels.ndim :]
    group = zarr.create_group(path, attributes=multiscales("0.5", axes, ["0"]))
    group.create_array("0", shape=voxels.shape, dtype=voxels.dtype, dimension_names=list(axes))[...] = voxels
