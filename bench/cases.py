"""The cases: what is computed of which volume, by which steps of voxmill, and which peers can do the same."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK = 128
CODEC = "zstd:3"
"""What the volumes are stored with, and every result that is compared with a peer's."""

CUT = 120
"""Foreground is below: between the dark objects, 60, and the bright rest, 180."""


@dataclass(frozen=True)
class Case:
    """One piece of work, from a Zarr array on disk to results on disk."""

    name: str
    volume: str
    steps: str
    peers: tuple[str, ...]
    gaussian: tuple[int, int, int] = (0, 0, 0)
    window: int = 0
    radius: int = 0
    connectivity: int = 0
    off_by: int = 0
    """How far voxels may be from scipy's: it rounds sums of floats where we do, but not always to the same side."""


def smoothed(name: str, sigma: tuple[int, int, int]) -> Case:
    steps = f"gaussian sigma={','.join(map(str, sigma))} | cast dtype=uint8"
    return Case(name, "noisy", steps, ("scipy",), gaussian=sigma, off_by=1)


def median(width: int) -> Case:
    return Case(f"median{width}", "noisy", f"median size={width}", ("scipy", "itk"), window=width)


def eroded(radius: int, *peers: str) -> Case:
    steps = f"threshold below={CUT} | erode ball={radius} outside=ignore"
    return Case(f"erode{radius}", "clean", steps, peers, radius=radius)


def labelled(connectivity: int) -> Case:
    steps = f"threshold below={CUT} | label connectivity={connectivity}"
    return Case(f"label{connectivity}", "noisy", steps, ("scipy", "itk", "cc3d"), connectivity=connectivity)


PIPE = Case(
    "pipe",
    "noisy",
    "rescale divide=255 invert | gaussian sigma=3,6,6 | threshold above=0.5 | erode ball=4 outside=ignore | label",
    ("scipy", "mixed"),
    gaussian=(3, 6, 6),
    radius=4,
    connectivity=6,
)

CASES = {
    case.name: case
    for case in (
        Case("copy", "noisy", "cast dtype=uint8", ("scipy", "tensorstore", "zarrs")),
        # Nothing is cut off, but voxmill can't know: it packs all chunks anew, as the peers do in both cases.
        Case("repack", "noisy", "clip low=0 high=255", ("scipy", "tensorstore", "zarrs")),
        Case("hist", "noisy", "", ("scipy", "tensorstore")),
        smoothed("gauss1", (1, 1, 1)),
        smoothed("gauss36", (3, 6, 6)),
        median(3),
        median(5),
        eroded(3, "scipy", "edt"),
        eroded(12, "edt"),
        labelled(6),
        labelled(26),
        PIPE,
    )
}
