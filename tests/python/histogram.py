"""The twin of `histogram.json`: counts, moments and percentiles by numpy and Python's own exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from reference import VALUE_BINS_MAX, less, otsu

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
EVEN_BINS = 65_536
"""Wider types have so many even bins over their finite range, in a job that only measures."""


def moments(finite: np.ndarray) -> dict:
    """Sum, mean and population standard deviation, exact until the last rounding."""
    if not finite.size:
        return {"sum": None, "mean": None, "std": None}
    numbers, counts = np.unique(finite, return_counts=True)
    weighted = [(Fraction(x), n) for x, n in zip(numbers.tolist(), counts.tolist())]
    n = int(finite.size)
    total = sum(x * count for x, count in weighted)
    squares = sum(x * x * count for x, count in weighted)
    variance = float(n * squares - total * total) / float(n * n)
    return {"sum": float(total), "mean": float(total) / n, "std": math.sqrt(variance)}


def percentiles(finite: np.ndarray) -> dict[str, float] | None:
    """numpy's linear percentiles, in float64."""
    if not finite.size:
        return None
    return {str(p): float(np.percentile(finite.astype(np.float64), p)) for p in PERCENTS}


def difference(found: dict, voxels: np.ndarray) -> str | None:
    """What is wrong with the parsed `histogram.json` of an image, or None."""
    finite = voxels[np.isfinite(voxels)]
    if finite.dtype == bool:
        finite = finite.astype(np.uint8)
    expected = {
        "dtype": voxels.dtype.name,
        "voxels": voxels.size,
        "finite": finite.size,
        "nan": int(np.isnan(voxels).sum()),
        "posinf": int(np.isposinf(voxels).sum()) if voxels.dtype.kind == "f" else 0,
        "neginf": int(np.isneginf(voxels).sum()) if voxels.dtype.kind == "f" else 0,
        "min": finite.min().item() if finite.size else None,
        "max": finite.max().item() if finite.size else None,
        **moments(finite),
    }
    for key, wanted in expected.items():
        if key not in found or found[key] != wanted:
            return f"histogram.json: {key} is {found.get(key, 'missing')}, expected {wanted}"
    return wrong_percentiles(found, finite) or wrong_counts(found, finite) or wrong_otsu(found, finite)


def wrong_percentiles(found: dict, finite: np.ndarray) -> str | None:
    """Equal to numpy's, or within the bound that a histogram which says it is not exact gives."""
    wanted = percentiles(finite)
    if wanted is None:
        nothing = found["percentiles"] is None or all(value is None for value in found["percentiles"].values())
        return None if nothing else "histogram.json: percentiles of nothing"
    bound = 0.0 if found["exact"] else found["bound"]
    for p, number in wanted.items():
        if not 0 <= number - found["percentiles"][p] <= bound:
            return f"histogram.json: percentile {p} is {found['percentiles'][p]}, expected {number} within {bound}"
    return None


def wrong_counts(found: dict, finite: np.ndarray) -> str | None:
    """A bin for each value of narrow integers; even bins or edges for what is wider."""
    counts = np.asarray(found["counts"], np.int64)
    if not finite.size:
        return None if not counts.size else "histogram.json: counts of nothing"
    if counts.sum() != finite.size:
        return f"histogram.json: counts add up to {counts.sum()}, expected {finite.size}"
    if finite.dtype.kind != "f" and int(finite.max()) - int(finite.min()) < VALUE_BINS_MAX:
        low = int(finite.min())
        # Modulo 2^64, which is exact for a range as narrow as this: uint64 has values that int64 has not.
        wanted = np.bincount((finite.astype(np.uint64) - np.uint64(low % 2**64)).astype(np.int64))
        if (found["bin_start"], found["bin_width"]) != (low, 1):
            return f"histogram.json: bins start at {found['bin_start']} by {found['bin_width']}, expected {low} by 1"
    elif "edges" in found:
        # How many lie below each edge but the last, which belongs to its bin. np.histogram would round 64-bit integers.
        numbers, weights = np.unique(finite, return_counts=True)
        below = [int(weights[: np.count_nonzero(less(numbers, edge))].sum()) for edge in found["edges"][:-1]]
        wanted = np.diff([*below, finite.size])
    else:
        if len(counts) != EVEN_BINS:
            return f"histogram.json: {len(counts)} even bins, expected {EVEN_BINS}"
        wanted, _ = np.histogram(finite.astype(np.float64), bins=EVEN_BINS)
    if len(counts) != len(wanted):
        return f"histogram.json: {len(counts)} bins, expected {len(wanted)}"
    moved = int(np.abs(counts - wanted).sum()) // 2
    return f"histogram.json: {moved} voxels are counted in another bin than numpy's" if moved else None


def wrong_otsu(found: dict, finite: np.ndarray) -> str | None:
    """scikit-image's threshold, where the counts at hand give one; for floats within a bin of it."""
    if found["otsu"] is None:
        given = not finite.size or "edges" in found
        return None if given else "histogram.json: otsu is missing"
    wanted, off_by = otsu(finite)
    near = abs(found["otsu"] - wanted) <= off_by * (1 + 1e-9)
    return None if near else f"histogram.json: otsu is {found['otsu']}, expected {wanted} within {off_by}"
