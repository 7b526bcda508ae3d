"""Images as viewers open them: every group that voxmill writes, in both versions of OME-Zarr, against the models of the
specification (ome-zarr-models), zarr-python, and numpy's own levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import images
import numpy as np
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v04.image_label import ImageLabel as Labels04
from ome_zarr_models.v05.image import Image as Image05
from ome_zarr_models.v05.image_label import ImageLabel as Labels05
from program import Voxmill

MODELS = {("0.4", False): Image04, ("0.4", True): Labels04, ("0.5", False): Image05, ("0.5", True): Labels05}


@dataclass(frozen=True)
class Group:
    """An OME-Zarr group on the disk."""

    path: Path

    def attributes(self) -> dict:
        """What the specification speaks of, wherever the version has it."""
        attributes = dict(zarr.open_group(self.path, mode="r").attrs)
        return attributes.get("ome", attributes)

    def version(self) -> str:
        """Of the specification."""
        attributes = self.attributes()
        return attributes.get("version") or attributes["multiscales"][0]["version"]

    def levels(self) -> list[tuple[np.ndarray, list[float], list[float]]]:
        """Voxels, scale and translation of each level, finest first."""
        group, found = zarr.open_group(self.path, mode="r"), []
        for dataset in self.attributes()["multiscales"][0]["datasets"]:
            scale, translation = dataset["coordinateTransformations"]
            found.append((group[dataset["path"]][...], scale["scale"], translation["translation"]))
        return found

    def invalid(self, version: str, labels: bool = False) -> str | None:
        """What the models of the specification have against it."""
        if self.version() != version:
            return f"it is OME-Zarr {self.version()}, expected {version}"
        if (zarr.open_group(self.path, mode="r").metadata.zarr_format == 2) != (version == "0.4"):
            return "it is of the other version of Zarr"
        if labels != ("image-label" in self.attributes()):
            return f"image-label metadata: {'image-label' in self.attributes()}, expected {labels}"
        try:
            MODELS[version, labels].from_zarr(zarr.open_group(self.path, mode="r"))
        except Exception as error:
            return f"against the specification: {error}"
        return None


def halved(voxels: np.ndarray, axes: list[int], mean: bool) -> np.ndarray:
    """The next level, by numpy: the mean of pairs along each of the axes, or every other voxel."""
    if not mean:
        return voxels[tuple(slice(None, None, 2) if axis in axes else slice(None) for axis in range(voxels.ndim))]
    wide = voxels.astype(object) if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8 else voxels
    wide = wide if wide.dtype == object else wide.astype(np.float64 if voxels.dtype.kind == "f" else np.int64)
    # Pairs along x first, then the rows as they lie: the order in which floats are added. At the end of an odd axis
    # there is one voxel where elsewhere are two.
    step = [2 if axis in axes else 1 for axis in range(3)]
    total = np.zeros([-(-length // by) for length, by in zip(voxels.shape, step)], wide.dtype)
    counts = np.zeros(total.shape, np.int64)
    for plane, row in np.ndindex(*step[:2]):
        rows = wide[plane :: step[0], row :: step[1]]
        pairs = rows[..., :: step[2]].copy()
        number = np.ones(pairs.shape, np.int64)
        if step[2] == 2:
            partners = rows[..., 1::2]
            pairs[..., : partners.shape[2]] += partners
            number[..., : partners.shape[2]] += 1
        there = tuple(slice(length) for length in pairs.shape)
        total[there] += pairs
        counts[there] += number
    if voxels.dtype.kind == "f":
        return (total / counts).astype(voxels.dtype)
    floor, rest = total // counts, total % counts
    up = (2 * rest > counts) | ((2 * rest == counts) & (floor % 2 == 1))
    return (floor + up).astype(voxels.dtype)


def wrong_levels(group: Group, finest: np.ndarray, sizes: list[float], steps: list[list[int]], mean: bool) -> str | None:
    """What is wrong with a group whose levels halve the axes given by `steps`, one list a level."""
    levels = group.levels()
    if len(levels) != 1 + len(steps):
        return f"it has {len(levels)} levels of shapes {[voxels.shape for voxels, *_ in levels]}, expected {1 + len(steps)}"
    expected, factors = finest, [1.0] * finest.ndim
    for number, (voxels, scale, translation) in enumerate(levels):
        if number:
            for axis in steps[number - 1]:
                factors[axis] *= 2
            expected = halved(expected, steps[number - 1], mean)
        voxels = voxels.reshape(voxels.shape[voxels.ndim - finest.ndim :])
        if voxels.shape != expected.shape or voxels.dtype != expected.dtype:
            return f"level {number} is {voxels.dtype} of {voxels.shape}, expected {expected.dtype} of {expected.shape}"
        if voxels.tobytes() != np.ascontiguousarray(expected).tobytes():
            return f"level {number} has {int((voxels != expected).sum())} other voxels than numpy's"
        size = [size * factor for size, factor in zip(sizes, factors)]
        middle = [size * (factor - 1) / 2 if mean else 0.0 for size, factor in zip(sizes, factors)]
        extra = len(scale) - finest.ndim
        if scale[extra:] != size or not np.allclose(translation[extra:], middle, rtol=1e-12, atol=0):
            return f"level {number} lies at {translation} with voxels of {scale}, expected {middle} and {size}"
    return None


def imported(voxmill: Voxmill, folder: Path, dtype: str, version: str, planes: bool) -> str | None:
    """An import with levels; `planes` are twice and more as far apart as pixels."""
    voxels = images.load(dtype)[:21, :37, :45]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", np.ascontiguousarray(voxels))
    size = "3,1,1um" if planes else "1,1,1um"
    flags = ("--chunks", "8", "--levels", "4", "--ome", version, "--voxel-size", size)
    voxmill.call("import", str(folder / "image.npy"), str(folder / "image.zarr"), "--quiet", *flags)
    group = Group(folder / "image.zarr")
    steps = [[1, 2], [0, 1, 2], [0, 1, 2]] if planes else [[0, 1, 2]] * 3
    sizes = [3.0 if planes else 1.0, 1.0, 1.0]
    return group.invalid(version) or wrong_levels(group, voxels, sizes, steps, mean=True)


def given(voxmill: Voxmill, folder: Path, version: str, labels: bool) -> str | None:
    """Levels for a group that zarr-python wrote: two channels, one level."""
    channels = [images.load("atlas")[:30, :28, :26], images.load("atlas")[5:35, 3:31, 2:28]]
    voxels = np.stack(channels)
    store = zarr.open_group(folder / "image.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    names = ["c", "z", "y", "x"]
    how = {"dimension_names": names} if version == "0.5" else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    array = store.create_array("0", shape=voxels.shape, dtype=voxels.dtype, chunks=(1, 16, 16, 16), **how)
    array[...] = voxels
    placed = [{"type": "scale", "scale": [1.0, 2.0, 2.0, 2.0]}]
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in names]
    image = {"axes": axes, "name": "theirs", "datasets": [{"path": "0", "coordinateTransformations": placed}]}
    attributes = {"multiscales": [image | ({"version": "0.4"} if version == "0.4" else {})]}
    attributes |= {"image-label": {"version": version}} if labels else {}
    store.attrs.update({"ome": {"version": "0.5", **attributes}} if version == "0.5" else attributes)
    voxmill.call("pyramid", str(folder / "image.zarr"), "--levels", "3", "--quiet")

    group = Group(folder / "image.zarr")
    if wrong := group.invalid(version, labels):
        return wrong
    expected = channels
    opened, attributes = zarr.open_group(folder / "image.zarr", mode="r"), group.attributes()
    for number, dataset in enumerate(attributes["multiscales"][0]["datasets"]):
        found = opened[dataset["path"]][...]
        expected = [halved(channel, [0, 1, 2], not labels) for channel in expected] if number else expected
        if found.shape != (2, *expected[0].shape) or any((f != e).any() for f, e in zip(found, expected)):
            return f"level {number} has other voxels than numpy's"
    return None if number == 2 else f"it has {number + 1} levels"


def run(voxmill: Voxmill, folder: Path, steps: str, version: str) -> str | None:
    """What a run writes."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", images.load("cement"))
    voxmill.call("import", str(folder / "image.npy"), str(folder / "in.zarr"), "--quiet", "--levels", "none")
    voxmill.run(folder / "in.zarr", folder / "out", steps, ("--ome", version))
    labels = "label" in steps
    group = Group(folder / "out" / ("labels.zarr" if labels else "result.zarr"))
    return group.invalid(version, labels)


def work_list(voxmill: Voxmill) -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Every case by name, with what judges it in a folder."""
    for version in ("0.4", "0.5"):
        for dtype in ("uint8", "int16", "uint64", "int64", "float32", "float64"):
            for planes in (False, True):
                name = f"OME-Zarr {version}: import of {dtype}{', planes apart' if planes else ''}, levels"
                yield name, lambda folder, a=(dtype, version, planes): imported(voxmill, folder, *a)
        for labels in (False, True):
            name = f"OME-Zarr {version}: levels for a group of {'labels' if labels else 'grey values'}"
            yield name, lambda folder, a=(version, labels): given(voxmill, folder, *a)
        for steps in ("median size=3", "threshold above=90", "threshold above=90 | label"):
            yield f"OME-Zarr {version}: `{steps}`", lambda folder, a=(steps, version): run(voxmill, folder, *a)
