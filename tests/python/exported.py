"""What `voxmill export` writes, as tifffile reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import images
import numpy as np
import tifffile
import zarr
from program import Voxmill

TYPES = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64".split()
UNITS = {"type": "space", "unit": "micrometer"}
SIZE = (2.0, 0.5, 0.25)


@dataclass(frozen=True)
class Export:
    """One line of the report."""

    dtype: str
    flags: tuple[str, ...] = ()
    part: tuple[slice, ...] = ()

    @property
    def name(self) -> str:
        """As it stands in the report."""
        return " ".join(("export", self.dtype, *self.flags))


def exports() -> Iterator[Export]:
    """All of them."""
    for dtype in TYPES:
        yield Export(dtype)
    yield Export("uint16", ("--compress", "deflate"))
    yield Export("float32", ("--memory", "100KiB"))
    yield Export("uint16", ("--region", "3:9,5:,:-4"), (slice(3, 9), slice(5, None), slice(None, -4)))


def wrong(voxmill: Voxmill, export: Export, folder: Path) -> str | None:
    """What is wrong with one."""
    voxels = images.load(export.dtype)
    group = zarr.create_group(folder / "image.zarr", overwrite=True)
    scale = {"type": "scale", "scale": SIZE}
    axes = [{"name": name} | UNITS for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group.create_array("0", shape=voxels.shape, dtype=voxels.dtype, chunks=(8, 9, 10))[...] = voxels
    output = folder / "out.tif"
    voxmill.call("export", str(folder / "image.zarr"), str(output), "--quiet", *export.flags)
    expected = voxels[export.part].astype(np.uint8) if voxels.dtype == bool else voxels[export.part]
    with tifffile.TiffFile(output) as tiff:
        if not tiff.is_bigtiff or len(tiff.pages) != len(expected):
            return f"{len(tiff.pages)} pages, BigTIFF is {tiff.is_bigtiff}"
        seen = tiff.asarray()
        if seen.dtype != expected.dtype or not np.array_equal(seen, expected, equal_nan=expected.dtype.kind == "f"):
            return f"{seen.dtype} {seen.shape} is read, other than {expected.dtype} {expected.shape}"
        told = tiff.imagej_metadata or {}
        if (told.get("unit"), told.get("spacing"), told.get("slices")) != ("micron", SIZE[0], len(expected)):
            return f"the description is read as {told}"
        for tag, size in (("XResolution", SIZE[2]), ("YResolution", SIZE[1])):
            above, below = tiff.pages[0].tags[tag].value
            if below / above != size:
                return f"{tag} is {above}/{below}"
    return None
