"""What is wrong with a result, in one sentence, or None: images, label images, object tables."""

from __future__ import annotations

import numpy as np
import objects
import pandas as pd
from reference import Answer

ROUNDING = 1e-12
"""Relative difference allowed to what is rounded once by us and several times by numpy."""
EIGENVALUE_ROUNDING = 1e-9
"""The same for eigenvalues, which numpy takes from sums of large squares; of the largest, not of each."""


def wrong_image(found: np.ndarray, expected: Answer) -> str | None:
    """Voxels equal, or for filters within their tolerance and one rounding; NaN and infinities at the same places."""
    wanted = expected.voxels
    stored = np.dtype(np.uint8) if wanted.dtype == bool else wanted.dtype
    if found.dtype != stored:
        return f"the image is {found.dtype}, expected {stored}"
    if found.shape != wanted.shape:
        return f"the image has shape {found.shape}, expected {wanted.shape}"
    if not expected.tolerance:
        differs = ~((found == wanted) | (np.isnan(found) & np.isnan(wanted)))
        if expected.unsure is not None:
            differs &= ~expected.unsure
        return first_of(differs, found, wanted)
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return "NaN or infinities lie elsewhere"
    allowed = np.zeros(wanted.shape)
    allowed[finite] = expected.tolerance + np.spacing(np.abs(wanted[finite])).astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return first_of(finite & (apart > allowed), found, wanted)


def first_of(differs: np.ndarray, found: np.ndarray, wanted: np.ndarray) -> str | None:
    """Names how many voxels differ and the first of them."""
    if not differs.any():
        return None
    at = tuple(int(i) for i in np.argwhere(differs)[0])
    return (
        f"{int(differs.sum())} of {differs.size} voxels differ, the first at {at}: {found[at]}, expected {wanted[at]}"
    )


def wrong_table(
    found: pd.DataFrame, labels: np.ndarray, intensity: np.ndarray | None, sizes: tuple[float, ...] | None = None
) -> str | None:
    """Rows, columns, types and values against plain numpy, and what scikit-image has against scikit-image. `sizes` are
    those of a voxel, where the image has some."""
    wanted = objects.table(labels, intensity, sizes)
    if list(found.columns) != list(wanted.columns):
        return f"the table's columns are {', '.join(found.columns)}; expected {', '.join(wanted.columns)}"
    if len(found) != len(wanted):
        return f"the table has {len(found)} rows, expected {len(wanted)}"
    wrong = wrong_types(found, labels.dtype, intensity)
    if wrong or not len(wanted):
        return wrong
    wrong = wrong_columns(found, wanted, "numpy")
    counted = np.array_equal(wanted["label"], np.arange(1, len(wanted) + 1))
    finite = intensity is None or (intensity.dtype != bool and np.isfinite(intensity).all())
    if wrong or not counted or not finite:
        return wrong
    return wrong_columns(found, objects.regionprops(labels, intensity), "scikit-image")


def wrong_types(found: pd.DataFrame, labels: np.dtype, intensity: np.ndarray | None) -> str | None:
    """The documented type of each column."""
    for name in found.columns:
        if name == "label":
            wanted = "int64" if labels.kind == "i" else "uint64"
        elif name in ("voxels", "surface_faces", "border_faces"):
            wanted = "uint64"
        elif name == "touches_border":
            wanted = "bool"
        elif name.startswith("bbox_"):
            wanted = "int64"
        elif name in ("intensity_min", "intensity_max"):
            wanted = "float64" if intensity.dtype.kind == "f" else "uint64" if intensity.dtype == np.uint64 else "int64"
        else:
            wanted = "float64"
        if str(found[name].dtype) != wanted:
            return f"column {name} is {found[name].dtype}, expected {wanted}"
    return None


def wrong_columns(found: pd.DataFrame, wanted: pd.DataFrame, judge: str) -> str | None:
    """Each column of `wanted`: exact where nothing is rounded, else within the rounding of the judge."""
    largest = wanted.get("eigenvalue_1")
    for name in wanted.columns:
        ours, theirs = found[name].to_numpy(), wanted[name].to_numpy()
        if name.startswith(objects.EXACT):
            good = (ours == theirs) | (pd.isna(ours) & pd.isna(theirs))
        elif name.startswith("eigenvalue"):
            good = np.abs(ours - theirs) <= EIGENVALUE_ROUNDING * largest
        elif name == "anisotropy":
            good = np.abs(ours - theirs) <= EIGENVALUE_ROUNDING
        else:
            # A deviation near 0 beside a large mean keeps the mean's rounding, not its own.
            with_mean = name == "intensity_std" and judge == "scikit-image"
            mean = np.abs(found["intensity_mean"].to_numpy()) if with_mean else 0.0
            apart = np.abs(ours - theirs)
            good = (apart <= ROUNDING * (np.abs(theirs) + mean)) | (np.isnan(ours) & np.isnan(theirs))
        if not np.all(good):
            row = int(np.argmin(good))
            return (
                f"column {name} differs from {judge} in {int((~np.asarray(good)).sum())} of {len(found)} rows, "
                f"the first for label {found['label'][row]}: {ours[row]}, expected {theirs[row]}"
            )
    return None
