"""The object table's twin: every column by plain numpy, object after object, and scikit-image's table beside it.

Columns, their order and meaning are those of `objects.parquet`; coordinates are voxel indices unless a column says so.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from skimage.measure import regionprops_table

AXES = {2: "yx", 3: "zyx"}

EXACT = (
    "label",
    "voxels",
    "bbox_",
    "intensity_min",
    "intensity_max",
    "surface_faces",
    "border_faces",
    "touches_border",
)
"""How the names of columns begin that admit no rounding at all."""

REGIONPROPS = {
    "label": "label",
    "voxels": "num_pixels",
    "centroid": "centroid",
    "bbox": "bbox",
    "intensity_mean": "intensity_mean",
    "intensity_std": "intensity_std",
    "intensity_min": "intensity_min",
    "intensity_max": "intensity_max",
}
"""Ours -> scikit-image's, for what both have."""


def table(labels: np.ndarray, intensity: np.ndarray | None, sizes: tuple[float, ...] | None = None) -> pd.DataFrame:
    """One row per object, ordered by label. `sizes` are those of a voxel along each axis, all in one unit, of an image
    whose first voxel lies at 0; without them voxels are cubes of 1 and physical columns are left out."""
    where = np.argwhere(labels)
    owner = labels[tuple(where.T)]
    order = np.argsort(owner, kind="stable")
    where, owner = where[order], owner[order]
    ids, first = np.unique(owner, return_index=True)
    surface, border = faces(labels)
    rows = []
    for label, coordinates in zip(ids.tolist(), np.split(where, first[1:]) if len(ids) else []):
        here = tuple(coordinates.T)
        row = {"label": label, "voxels": len(coordinates), **geometry(coordinates, labels.ndim)}
        if intensity is not None:
            row |= intensities(intensity[here])
        row |= shape(coordinates * np.array(sizes or 1.0))
        row["surface_faces"], row["border_faces"] = int(surface[here].sum()), int(border[here].sum())
        row["touches_border"] = row["border_faces"] > 0
        for axis, size in zip(AXES[labels.ndim], sizes or ()):
            row[f"physical_centroid_{axis}"] = row[f"centroid_{axis}"] * size
        row["volume"] = row["voxels"] * math.prod(sizes or ())
        rows.append(row)
    return pd.DataFrame(rows, columns=columns(labels.ndim, intensity is not None, sizes is not None))


def columns(axes: int, with_intensity: bool, with_sizes: bool = False) -> list[str]:
    """The names, in order."""
    names = AXES[axes]
    return [
        *["label", "voxels", *(f"centroid_{a}" for a in names)],
        *[f"bbox_{a}0" for a in names],
        *[f"bbox_{a}1" for a in names],
        *(f"intensity_{what}" for what in ("mean", "std", "min", "max", "sum") if with_intensity),
        *[f"eigenvalue_{i + 1}" for i in range(axes)],
        *["anisotropy", "surface_faces", "border_faces", "touches_border"],
        *(name for name in ("volume", *(f"physical_centroid_{a}" for a in names)) if with_sizes),
    ]


def geometry(coordinates: np.ndarray, axes: int) -> dict:
    """Centroid and half-open box."""
    low, high, centre = coordinates.min(axis=0), coordinates.max(axis=0) + 1, coordinates.mean(axis=0)
    names = AXES[axes]
    return {
        **{f"centroid_{a}": float(centre[i]) for i, a in enumerate(names)},
        **{f"bbox_{a}0": int(low[i]) for i, a in enumerate(names)},
        **{f"bbox_{a}1": int(high[i]) for i, a in enumerate(names)},
    }


def intensities(values: np.ndarray) -> dict:
    """Statistics of the finite values; of none, NaN and a sum of 0."""
    finite = values[np.isfinite(values)]
    numbers = finite.astype(np.longdouble)
    if not len(finite):
        nothing = dict.fromkeys(("intensity_mean", "intensity_std", "intensity_min", "intensity_max"), np.nan)
        return {**nothing, "intensity_sum": 0.0}
    return {
        "intensity_mean": float(numbers.mean()),
        "intensity_std": float(numbers.std()),
        "intensity_min": finite.min().item(),
        "intensity_max": finite.max().item(),
        "intensity_sum": float(numbers.sum()),
    }


def shape(positions: np.ndarray) -> dict:
    """Eigenvalues of the population covariance of the voxel centres, descending, and what they say of the shape."""
    axes = positions.shape[1]
    covariance = np.cov(positions, rowvar=False, bias=True) if len(positions) > 1 else np.zeros((axes, axes))
    values = np.linalg.eigvalsh(covariance)[::-1].clip(min=0)
    anisotropy = 1 - values[-1] / values[0] if values[0] > 0 else 0.0
    return {**{f"eigenvalue_{i + 1}": float(v) for i, v in enumerate(values)}, "anisotropy": float(anisotropy)}


def faces(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each voxel, how many of its faces look at another value of the image, and how many look out of it."""
    surface, border = np.zeros(labels.shape, np.int64), np.zeros(labels.shape, np.int64)
    for axis in range(labels.ndim):
        at = np.moveaxis(labels, axis, 0)
        seen, out = np.moveaxis(surface, axis, 0), np.moveaxis(border, axis, 0)
        differs = at[1:] != at[:-1]
        seen[1:] += differs
        seen[:-1] += differs
        out[0] += 1
        out[-1] += 1
    return surface, border


def regionprops(labels: np.ndarray, intensity: np.ndarray | None) -> pd.DataFrame:
    """scikit-image's table under our names, for columns that both have. It needs labels from 1 and finite values."""
    names = [ours for ours in REGIONPROPS if intensity is not None or not ours.startswith("intensity")]
    if intensity is not None and intensity.dtype == np.float32:
        intensity = intensity.astype(np.float64)  # or scikit-image takes the mean in float32
    measured = regionprops_table(
        labels.astype(np.int64), intensity, properties=[REGIONPROPS[ours] for ours in names], cache=True
    )
    axes = AXES[labels.ndim]
    corners = [f"bbox_{a}{end}" for end in "01" for a in axes]
    renamed = {f"centroid-{i}": f"centroid_{a}" for i, a in enumerate(axes)}
    renamed |= {f"bbox-{i}": corner for i, corner in enumerate(corners)} | {"num_pixels": "voxels"}
    return pd.DataFrame(measured).rename(columns=renamed)
