"""Images as napari gets them: what the reader of napari-ome-zarr makes of every group that a run and an import leave,
without a window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import images
import numpy as np
import reference
from napari_ome_zarr import napari_get_reader, ome_zarr_reader
from ngff import halved
from program import Voxmill

# The reader prints the attributes of what it reads. The report is printed from another thread, hence not redirect_stdout.
ome_zarr_reader.print = lambda *_: None

READING = threading.Lock()
"""napari finishes importing its own parts at the first call, which two threads must not do at once."""
SIZES = [2.0, 1.0, 1.0]
STEPS = "median size=3 save=calm | threshold above=230 save=bright | label connectivity=26"


def layers(path: Path) -> list[tuple[list, dict, str]]:
    """What napari would add: levels, what is known of them, and the kind of each layer."""
    with READING:
        reader = napari_get_reader(str(path))
        return [] if reader is None else reader(str(path))


def wrong_layers(path: Path, kind: str, finest: np.ndarray, mean: bool) -> str | None:
    """One layer of that kind, with two levels, the size of the voxels, and numpy's voxels."""
    found = layers(path)
    if [layer[2] for layer in found] != [kind]:
        return f"{path.name} gives layers {[layer[2] for layer in found]}, expected one of {kind}"
    ((levels, known, _),) = found
    if known.get("scale") != SIZES or known.get("units") != ("micrometer",) * 3:
        return f"{path.name} has voxels of {known.get('scale')} {known.get('units')}"
    if known.get("axis_labels") != ("z", "y", "x"):
        return f"{path.name} has the axes {known.get('axis_labels')}"
    # Planes are twice as far apart as pixels, so that the first step halves those only.
    wanted = [finest, halved(finest, [1, 2], mean)]
    if len(levels) != len(wanted):
        return f"{path.name} has {len(levels)} levels"
    for number, (level, voxels) in enumerate(zip(levels, wanted)):
        if level.dtype != voxels.dtype or not np.array_equal(level.compute(), voxels):
            return f"level {number} of {path.name} has other voxels than numpy's"
    return None


def judge(voxmill: Voxmill, folder: Path, version: str) -> str | None:
    """An import, images and labels of a run. The reader looks for the image of labels two folders up, and makes a group
    there where there is none: hence the folder within the folder."""
    voxels, home = images.load("nuclei"), folder / "within"
    home.mkdir(parents=True, exist_ok=True)
    np.save(home / "image.npy", voxels)
    flags = ("--ome", version, "--levels", "2", "--chunks", "16")
    size = ",".join(map(str, SIZES)) + "um"
    voxmill.call("import", str(home / "image.npy"), str(home / "in.zarr"), "--quiet", "--voxel-size", size, *flags)
    out = voxmill.run(home / "in.zarr", home / "out", STEPS, flags).folder
    result = voxmill.run(home / "in.zarr", home / "image", "median size=3", flags).folder
    calm = reference.answer(voxels, "median size=3").voxels
    bright = (calm > 230).astype(np.uint8)
    labels = reference.answer(bright, "label connectivity=26").voxels
    return (
        wrong_layers(home / "in.zarr", "image", voxels, mean=True)
        or wrong_layers(out / "calm.zarr", "image", calm, mean=True)
        or wrong_layers(out / "bright.zarr", "image", bright, mean=False)
        or wrong_layers(out / "labels.zarr", "labels", labels, mean=False)
        or wrong_layers(result / "result.zarr", "image", calm, mean=True)
    )


def work_list(voxmill: Voxmill) -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Every case by name, with what judges it in a folder."""
    for version in ("0.4", "0.5"):
        yield f"napari: OME-Zarr {version}", lambda folder, version=version: judge(voxmill, folder, version)
