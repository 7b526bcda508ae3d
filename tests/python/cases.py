"""What is judged: an image and the steps done to it, as a user would write them, and the layouts each is run in."""

from __future__ import annotations

from dataclasses import dataclass

import images
import numpy as np
from golden import TABLE
from program import Layout

SMALL_MERGE = ("--merge-fanout", "2", "--range-rows", "50", "--merge-memory", "64KiB")
"""A label merge of many levels and ranges, which crops as small as these would never need."""

LAYOUTS = {
    3: (
        Layout(
            "whole", ("--chunks", "64", "--shards", "none"), ("--chunks", "64", "--shards", "none", "--block", "64")
        ),
        Layout("even", ("--chunks", "16", "--shards", "2"), ("--chunks", "16", "--shards", "none", "--block", "16")),
        Layout(
            "odd",
            ("--chunks", "13,17,11", "--shards", "none"),
            ("--chunks", "10,9,12", "--shards", "2,1,1", "--block", "20,9,24", "--workers", "3", *SMALL_MERGE),
        ),
    ),
    2: (
        Layout(
            "whole", ("--chunks", "64", "--shards", "none"), ("--chunks", "64", "--shards", "none", "--block", "64")
        ),
        Layout("even", ("--chunks", "16", "--shards", "2"), ("--chunks", "16", "--shards", "none", "--block", "16")),
        Layout(
            "odd",
            ("--chunks", "17,11", "--shards", "none"),
            ("--chunks", "9,12", "--shards", "1,2", "--block", "18,24", "--workers", "3", *SMALL_MERGE),
        ),
    ),
}
"""By number of axes: one block; blocks of one chunk; shards, blocks and chunks that divide nothing evenly."""


@dataclass(frozen=True)
class Case:
    """One line of the report."""

    image: str
    steps: str
    region: str | None = None

    @property
    def name(self) -> str:
        """As the report calls it."""
        crop = f"[{self.region}]" if self.region else ""
        return f"{self.image}{crop}: {self.steps or 'measure only'}"

    def voxels(self) -> np.ndarray:
        """The image, cropped as numpy does it."""
        image = images.load(self.image)
        if self.region is None:
            return image
        bounds = [[int(end) if end else None for end in part.split(":")] for part in self.region.split(",")]
        return image[tuple(slice(*ends) for ends in bounds)]

    def flags(self) -> tuple[str, ...]:
        """What the command line needs beside the steps."""
        # Joined by `=`, since a region may begin with a minus sign.
        return (f"--region={self.region}",) if self.region else ()


def cases() -> list[Case]:
    """All of them, grouped as docs/conventions.md is."""
    return [*values(), *filters(), *thresholds(), *morphology(), *labels(), *tables(), *measures(), *pipelines()]


def each(image_names: str, *steps: str) -> list[Case]:
    """Every image with every job."""
    return [Case(image, job) for image in image_names.split() for job in steps]


ALL_TYPES = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64"


def values() -> list[Case]:
    """rescale, cast and clip."""
    return [
        *each(ALL_TYPES, "rescale multiply=3 divide=7 add=-0.1"),
        *each("cement slice", "rescale divide=255 invert"),
        *each("broken", "rescale multiply=-2.5"),
        *[
            Case(image, f"cast dtype={dtype}")
            for dtype in ALL_TYPES.split()
            for image in ("int64", "uint64", "broken", "float64" if dtype != "float64" else "int16")
            if dtype != image
        ],
        *each(ALL_TYPES, "clip low=0 high=100.5", "clip high=-3"),
        *each("broken", "clip low=-0.1 high=0.25"),
        *each("int64 uint64", "clip low=9007199254740993 high=2305843009213693952"),
        *each("nuclei", "rescale divide=2 | cast dtype=uint8", "rescale divide=2 add=-100 | cast dtype=int8"),
    ]


def filters() -> list[Case]:
    """gaussian, mean, median, minimum and maximum."""
    return [
        *each("cement", "gaussian sigma=1", "gaussian sigma=3,1.5,0.4", "gaussian sigma=2.2,0,0 truncate=2.5"),
        *each("head", *(f"gaussian sigma=2 mode={mode}" for mode in ("nearest", "mirror", "constant"))),
        *each("diffusion", "gaussian sigma=2 mode=constant value=100.5", "gaussian sigma=9"),
        *each("nuclei int16 uint32 int64 uint64 float64 bool", "gaussian sigma=1.3"),
        *each("broken plane row voxel slice diffusion_slice", "gaussian sigma=1.5"),
        *each("row voxel slice", "gaussian sigma=2 mode=mirror"),
        *each("slice", "gaussian sigma=3,0.7"),
        *each("cement", "median size=3", "median size=5", "median size=1,3,7", "median size=3 mode=constant value=90"),
        *each("head", "median size=5 mode=nearest", "median size=5 mode=mirror"),
        *each("nuclei int8 int16 int64 uint64 float64 bool broken diffusion plane row voxel", "median size=3"),
        *each("slice", "median size=3", "median size=9,1"),
        *each("cement", "mean size=3", "mean size=1,5,11", "mean size=5 mode=constant value=90.5"),
        *each("head", *(f"mean size=5 mode={mode}" for mode in ("nearest", "mirror", "constant"))),
        *each(f"{ALL_TYPES} broken diffusion plane row voxel", "mean size=3"),
        *each("slice", "mean size=9,1", "maximum size=1,9", "minimum size=5 mode=constant value=90"),
        *each("cement", *(f"{op} size={size}" for op in ("minimum", "maximum") for size in ("3", "1,5,11", "15"))),
        *each(f"{ALL_TYPES} broken diffusion plane row voxel", "minimum size=3", "maximum size=5"),
        *each("head", "minimum size=5 mode=constant value=7", "maximum size=5 mode=constant value=90"),
    ]


def thresholds() -> list[Case]:
    """threshold, in every way."""
    return [
        *each("cement", "threshold above=76", "threshold below=75.5", "threshold between=60,75", "threshold above=300"),
        *each("broken", "threshold above=100", "threshold below=100 invert", "threshold between=-3.25,1e3"),
        *each("diffusion", "threshold above=0.1 invert"),
        *each("uint64", "threshold above=9007199254740993", "threshold below=9007199254740993.0"),
        *each("int64", "threshold between=-2305843009213693953,-1e18"),
        *each("bool", "threshold above=0.5", "threshold method=otsu"),
        *each("cement bone fly head nuclei int8 int16 slice ones", "threshold method=otsu"),
        *each("diffusion broken float64 diffusion_slice", "threshold method=otsu", "threshold percentile=90"),
        *each("cement nuclei int32 int64 uint64 slice", "threshold percentile=33.3"),
        *each("diffusion", "threshold percentile=0", "threshold percentile=100", "threshold percentile=50 invert"),
    ]


def morphology() -> list[Case]:
    """erode, dilate, open and close by a ball, a box or a cross."""
    cut = "threshold above=95"
    return [
        *[
            Case("cement", f"{cut} | {op} ball={radius} outside={outside}")
            for op in ("erode", "dilate", "open", "close")
            for radius in (1, 2.5, 5)
            for outside in ("ignore", "zero")
        ],
        *[
            Case("cement", f"{cut} | {op} {shape} outside={outside}")
            for op in ("erode", "dilate", "open", "close")
            for shape in ("ball=1,3,2.5", "ball=0,4,4", "box=1", "box=0,3,2", "cross=1", "cross=4")
            for outside in ("ignore", "zero")
        ],
        *each("slice", *(f"{cut} | close {shape}" for shape in ("ball=3,1.5", "box=2,0", "cross=3"))),
        *each("plane row voxel", f"{cut} | open box=1,2,3", f"{cut} | dilate cross=2", f"{cut} | erode ball=2,1,3"),
        # Half the image: scipy looks at every one of the ball's 7,153 offsets.
        Case("cement", "threshold below=95 | dilate ball=12", region="10:31,:,:"),
        Case("cement", "threshold above=40 | erode ball=12", region="10:31,:,:"),
        *each("atlas signed_atlas zeros ones", "erode ball=2", "close ball=3 outside=zero"),
        *each(
            "slice plane row voxel",
            f"{cut} | open ball=2",
            f"{cut} | close ball=3",
            f"{cut} | erode ball=2 outside=zero",
        ),
    ]


def labels() -> list[Case]:
    """label: numbering, connectivity, what is dropped."""
    return [
        *[
            Case(image, f"{cut}label connectivity={connectivity}")
            for image, cut in (
                ("speckle", ""),
                ("snake", ""),
                ("corners", ""),
                ("cement", "threshold below=75 | "),
                ("nuclei", "threshold above=230 | "),
            )
            for connectivity in (6, 18, 26)
        ],
        *each("atlas signed_atlas zeros ones plane row voxel bool", "label"),
        *each("speckle", "label min_voxels=5", "label clear_border", "label connectivity=26 min_voxels=3 clear_border"),
        *each("cement", "threshold below=75 | label connectivity=26 min_voxels=20 clear_border"),
        *each("atlas_slice", "label connectivity=4", "label connectivity=8 clear_border", "label min_voxels=30"),
        *each("slice", "threshold below=75 | label connectivity=18", "threshold below=75 | label connectivity=26"),
        *each("plane", "threshold below=75 | label clear_border"),
    ]


def tables() -> list[Case]:
    """objects; and tables of labels over every kind of intensity."""
    return [
        *each("atlas signed_atlas nuclei_labels atlas_slice zeros ones", "objects"),
        *each(ALL_TYPES, "threshold percentile=80 | label connectivity=18"),
        *each("broken", "threshold above=300 | label", "threshold below=-50 invert | label connectivity=26"),
        *each("broken", "threshold above=1e30 | label"),
    ]


def measures() -> list[Case]:
    """No steps: the histogram alone."""
    return each(f"{ALL_TYPES} cement diffusion broken nothing_finite slice row voxel zeros", "")


def pipelines() -> list[Case]:
    """Several steps, fused and cut by barriers; and crops of the input."""
    foam = "rescale divide=255 invert | gaussian sigma=1,2,2 | threshold above=0.661 | erode ball=2 | label"
    denoised = "median size=3 | threshold method=otsu | open ball=1 | label connectivity=26 min_voxels=20"
    return [
        *each("cement", foam),
        *each("cement bone fly nuclei slice", denoised),
        *each("cement", "median size=3 | cast dtype=float32 | threshold percentile=20 invert | close ball=2 | label"),
        *each("bone", "threshold method=otsu | erode ball=3 | dilate ball=3", TABLE),
        Case("cement", denoised, region="3:29,:,-40:"),
        Case("bone", "gaussian sigma=2", region="0:1,5:40,:"),
        Case("slice", "median size=5", region="7:-2,:31"),
        Case("diffusion", "", region="5:,:,2:3"),
    ]
