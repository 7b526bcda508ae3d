"""The whole-array twins: what every step of a job gives, by numpy, scipy and scikit-image, on an image held in memory.

`answer(voxels, "median size=3 | threshold method=otsu | label")` reads steps as `voxmill run --steps` does and runs
them one after the other. Slow and obvious on purpose. Comparing is left to compare.py, tables and histograms are
objects.py's and histogram.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import cc3d
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import clear_border

VALUE_BINS_MAX = 65_536
"""Integers whose range is smaller than this have one bin for each value in a histogram."""

NUMPY_PAD = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "constant": "constant"}


@dataclass(frozen=True)
class Answer:
    """An image, how far from it a result may lie, and what it is: `image`, `labels` or `objects`."""

    voxels: np.ndarray
    tolerance: float = 0.0
    """Largest allowed difference, before the one rounding to float32; 0 asks for equal voxels."""
    unsure: np.ndarray | None = None
    """Where a threshold that is only known within a bin leaves the answer open."""
    kind: str = "image"


def parse(line: str) -> list[tuple[str, dict]]:
    """The steps of one line of text; understands what the cases use of the grammar, and raises on the rest."""
    steps = []
    for text in filter(None, (part.strip() for part in line.split("|"))):
        op, *words = text.split()
        pairs = (word.partition("=") for word in words)
        steps.append((op, {key: value(text) if sign else True for key, sign, text in pairs}))
    return steps


def value(text: str):
    """A number, a list of numbers, or the text itself."""
    if "," in text:
        return [value(part) for part in text.split(",")]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def answer(voxels: np.ndarray, line: str) -> Answer:
    """What the steps of `line` give for the image `voxels`."""
    return history(voxels, line)[-1]


TAKES_FOREGROUND = ("erode", "dilate", "open", "close", "fill_holes", "label", "objects")
GIVES_FOREGROUND = ("threshold", "erode", "dilate", "open", "close", "fill_holes", "label")
"""Steps that ask, and steps that say, which voxels are foreground: what lies outside a mask never is."""


def history(voxels: np.ndarray, line: str, inside: np.ndarray | None = None) -> list[Answer]:
    """The image `voxels` and what each step of `line` makes of it; `inside` is where a mask is not 0."""
    images = [Answer(voxels)]
    for op, parameters in parse(line):
        now = images[-1]
        # What is written beside the image is the business of those who compare it.
        own = {key: value for key, value in parameters.items() if key not in ("save", "contacts")}
        if inside is not None and op in TAKES_FOREGROUND:
            now = within(now, inside)
        if inside is not None and op == "threshold":
            own["inside"] = inside
        now = STEPS[op](now, **own)
        if inside is not None and op in GIVES_FOREGROUND:
            now = within(now, inside)
        images.append(now)
    return images


def within(image: Answer, inside: np.ndarray) -> Answer:
    """The image with background outside a mask."""
    exact(image)
    return replace(image, voxels=np.where(inside, image.voxels, image.voxels.dtype.type(0)))


def float_of(dtype: np.dtype) -> np.dtype:
    """What averaging steps give: float64 for float64, float32 for all else."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def rescale(image: Answer, multiply=1.0, divide=1.0, add=0.0, invert=False) -> Answer:
    """v * multiply / divide + add, then 1 - v, in float64, rounded once."""
    with np.errstate(invalid="ignore"):
        v = image.voxels.astype(np.float64) * multiply / divide + add
        v = 1.0 - v if invert else v
    return Answer(v.astype(float_of(image.voxels.dtype)), carried(image) * abs(multiply / divide))


def cast(image: Answer, dtype: str) -> Answer:
    """To integers half to even, saturating, NaN to 0; to bool v != 0, NaN to false."""
    exact(image)
    to, v = np.dtype(dtype), image.voxels
    if to == bool:
        return Answer(np.nan_to_num(v, nan=0.0) != 0)
    if to.kind == "f":
        return Answer(v.astype(to))
    # Python's integers know no overflow, so that clipping is exact for 64 bits too.
    limits = np.iinfo(to)
    low, high = int(limits.min), int(limits.max)
    if v.dtype.kind == "f":
        whole = [
            0 if math.isnan(x) else high if x >= high else low if x <= low else round(x) for x in v.ravel().tolist()
        ]
    else:
        whole = [min(max(int(x), low), high) for x in v.ravel().tolist()]
    return Answer(np.array(whole, dtype=to).reshape(v.shape))


def clip(image: Answer, low=-math.inf, high=math.inf) -> Answer:
    """numpy.clip; for integers with the integers inside the range, and no further than the type goes."""
    v = image.voxels
    low, high = float(low), float(high)
    if v.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return Answer(np.clip(v, v.dtype.type(low), v.dtype.type(high)), image.tolerance)
    least, most = (0, 1) if v.dtype == bool else (int(np.iinfo(v.dtype).min), int(np.iinfo(v.dtype).max))
    whole = lambda bound, side: bound if math.isinf(bound) else side(bound)
    low, high = (int(min(max(whole(*bound), least), most)) for bound in ((low, math.ceil), (high, math.floor)))
    if low > high:
        raise ValueError("a case clips to a range without any value")
    return Answer(np.array([min(max(int(x), low), high) for x in v.ravel().tolist()], v.dtype).reshape(v.shape))


def gaussian(image: Answer, sigma, truncate=4.0, mode="reflect", value=0.0) -> Answer:
    """scipy.ndimage.gaussian_filter, in float64 throughout."""
    v = image.voxels.astype(np.float64)
    smooth = ndimage.gaussian_filter(v, sigma, truncate=truncate, mode=mode, cval=value)
    to = float_of(image.voxels.dtype)
    largest = np.abs(v[np.isfinite(v)]).max(initial=abs(value) if mode == "constant" else 0.0)
    own = (2e-7 if to == np.float32 else 1e-13) * largest
    # What came in wrong by at most the tolerance goes out so: the taps are positive and add up to 1.
    return Answer(smooth.astype(to), carried(image) + own)


def mean(image: Answer, size, mode="reflect", value=0.0) -> Answer:
    """scipy.ndimage.uniform_filter in float64; where a NaN or an infinity would spoil its running sums, the mean of each
    window."""
    v = image.voxels.astype(np.float64)
    if np.isfinite(v).all() and math.isfinite(value):
        means = ndimage.uniform_filter(v, size, mode=mode, cval=value)
    else:
        with np.errstate(invalid="ignore"):
            means = windows(v, size, mode, value).mean(axis=-1)
    to = float_of(image.voxels.dtype)
    largest = np.abs(v[np.isfinite(v)]).max(initial=abs(value) if mode == "constant" and math.isfinite(value) else 0.0)
    own = (2e-7 if to == np.float32 else 1e-13) * largest
    return Answer(means.astype(to), carried(image) + own)


def windows(v: np.ndarray, size, mode: str, value) -> np.ndarray:
    """The window around each voxel, along one more axis."""
    size = [size] * v.ndim if isinstance(size, int) else size
    extra = {"constant_values": value} if mode == "constant" else {}
    padded = np.pad(v, [(n // 2, n // 2) for n in size], mode=NUMPY_PAD[mode], **extra)
    return np.lib.stride_tricks.sliding_window_view(padded, size).reshape(*v.shape, -1)


def minimum(image: Answer, size, mode="reflect", value=0) -> Answer:
    """scipy.ndimage.minimum_filter."""
    return ranked(image, size, mode, value, "minimum", 0)


def maximum(image: Answer, size, mode="reflect", value=0) -> Answer:
    """scipy.ndimage.maximum_filter."""
    return ranked(image, size, mode, value, "maximum", -1)


def median(image: Answer, size, mode="reflect", value=0) -> Answer:
    """scipy.ndimage.median_filter."""
    axes = image.voxels.ndim
    return ranked(image, size, mode, value, "median", (size**axes if isinstance(size, int) else math.prod(size)) // 2)


def ranked(image: Answer, size, mode: str, value, name: str, rank: int) -> Answer:
    """scipy's filter of that name; where it can't be the judge, one rank of each sorted window. NaN sorts last, as numpy
    has it; scipy leaves that open."""
    exact(image)
    v = image.voxels
    fill = value_of(value, v.dtype)
    # scipy takes 64-bit integers through float64, which loses their last digits.
    if not np.isnan(v).any() and not (mode == "constant" and np.isnan(fill)) and v.dtype not in (np.int64, np.uint64):
        size = [size] * v.ndim if isinstance(size, int) else size
        return Answer(getattr(ndimage, f"{name}_filter")(v, size=size, mode=mode, cval=fill))
    return Answer(np.sort(windows(v, size, mode, fill), axis=-1)[..., rank])


def value_of(value, dtype: np.dtype):
    """What lies beyond the faces, as a voxel of that type; what the type can't hold, no case may ask for."""
    with np.errstate(all="raise"):
        fill = np.array(value).astype(dtype)[()] if dtype.kind == "f" else dtype.type(value)
    if dtype.kind != "f" and fill != value:
        raise ValueError(f"a case asks for {value} among {dtype}")
    return fill


def threshold(
    image: Answer, above=None, below=None, between=None, method=None, percentile=None, invert=False, inside=None
) -> Answer:
    """A comparison with a number, exact; or with one that Otsu's method or numpy's percentile takes from the image, or
    from the part of it that lies inside a mask."""
    v = image.voxels
    seen = v if inside is None else v[inside]
    if above is not None:
        chosen = greater(v, above)
        keep_clear(image, [above])
    elif below is not None:
        chosen = less(v, below)
        keep_clear(image, [below])
    elif between is not None:
        low, high = between
        chosen = ~less(v, low) & ~greater(v, high) & ~np.isnan(v)
        keep_clear(image, between)
    elif percentile is not None:
        exact(image)
        chosen = greater(v, float(np.percentile(seen[np.isfinite(seen)].astype(np.float64), percentile)))
    else:
        exact(image)
        cut, off_by = otsu(seen)
        chosen = greater(v, cut)
        unsure = greater(v, cut - off_by) & ~greater(v, cut + off_by) if off_by else None
        return Answer(~chosen if invert else chosen, unsure=unsure)
    return Answer(~chosen if invert else chosen)


def otsu(v: np.ndarray) -> tuple[float, float]:
    """scikit-image's Otsu threshold of the finite voxels, and how far another exact reading of the method may lie: not
    at all for integers that have a bin for each value, else one of 256 bins, whose edges round."""
    finite = v[np.isfinite(v)]
    if v.dtype == bool:
        finite = finite.astype(np.uint8)
    span = float(finite.max()) - float(finite.min())
    if finite.dtype.kind == "f" or span >= VALUE_BINS_MAX:
        return float(threshold_otsu(finite.astype(np.float64))), span / 256
    return float(threshold_otsu(finite)), 0.0


def greater(v: np.ndarray, number: float) -> np.ndarray:
    """v > number, a float64, without another rounding; numpy would compare 64-bit integers as floats."""
    number = float(number)
    if v.dtype.kind in "iu" and math.isfinite(number):
        return v > math.floor(number)
    return v.astype(np.float64) > number


def less(v: np.ndarray, number: float) -> np.ndarray:
    """v < number, a float64, without another rounding."""
    number = float(number)
    if v.dtype.kind in "iu" and math.isfinite(number):
        return v < math.ceil(number)
    return v.astype(np.float64) < number


def footprint(axes: int, ball=None, box=None, cross=None) -> np.ndarray:
    """The structuring element as an array of offsets: exactly one of the three, one radius or one for each axis."""
    ((name, radius),) = ((n, r) for n, r in (("ball", ball), ("box", box), ("cross", cross)) if r is not None)
    radii = radius if isinstance(radius, list) else [radius] * axes
    offsets = np.indices([2 * int(r) + 1 for r in radii]) - np.array([int(r) for r in radii]).reshape(-1, *[1] * axes)
    if name == "box":
        return np.ones(offsets.shape[1:], bool)
    if name == "cross":
        return np.abs(offsets).sum(axis=0) <= radius
    if not isinstance(radius, list):
        return (offsets**2).sum(axis=0) <= radius * radius
    # Fractions, since in floats 0.36 + 0.64 need not be 1. Along an axis of radius 0 all offsets are 0.
    squares = [Fraction(r) ** 2 for r in radii]
    inside = [
        sum(int(d) ** 2 / square for d, square in zip(offset, squares) if square) <= 1
        for offset in offsets.reshape(axes, -1).T
    ]
    return np.array(inside).reshape(offsets.shape[1:])


def erode(image: Answer, outside="ignore", **shape) -> Answer:
    """scipy.ndimage.binary_erosion; `ignore` takes what lies outside as foreground."""
    return morphology(image, shape, [("erosion", outside == "ignore")])


def dilate(image: Answer, outside="ignore", **shape) -> Answer:
    """scipy.ndimage.binary_dilation; outside there is never anything that could grow in."""
    return morphology(image, shape, [("dilation", False)])


def opening(image: Answer, outside="ignore", **shape) -> Answer:
    """Erosion, then dilation."""
    return morphology(image, shape, [("erosion", outside == "ignore"), ("dilation", False)])


def closing(image: Answer, outside="ignore", **shape) -> Answer:
    """Dilation, then erosion."""
    return morphology(image, shape, [("dilation", False), ("erosion", outside == "ignore")])


def morphology(image: Answer, shape: dict, passes: list[tuple[str, bool]]) -> Answer:
    """Erosions and dilations by a footprint, each with what it takes the outside for."""
    exact(image)
    mask = image.voxels != 0
    for name, outside in passes:
        mask = getattr(ndimage, f"binary_{name}")(mask, footprint(mask.ndim, **shape), border_value=int(outside))
    return Answer(mask)


def fill_holes(image: Answer, connectivity=6) -> Answer:
    """scipy.ndimage.binary_fill_holes, the background growing in from outside over its neighbours."""
    exact(image)
    return Answer(ndimage.binary_fill_holes(image.voxels != 0, structure(connectivity, image.voxels.ndim)))


def label(image: Answer, connectivity=6, min_voxels=1, max_voxels=math.inf, clear_border=False) -> Answer:
    """scipy.ndimage.label; what is dropped leaves no gap in the numbers."""
    exact(image)
    neighbours = structure(connectivity, image.voxels.ndim)
    labels, count = ndimage.label(image.voxels != 0, structure=neighbours)
    second_opinion(image.voxels != 0, connectivity, labels)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    keep = (voxels >= min_voxels) & (voxels <= max_voxels)
    if clear_border:
        keep &= np.isin(np.arange(count + 1), without_border(labels))
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0)
    return Answer(numbers[labels].astype(np.uint32), kind="labels")


def second_opinion(mask: np.ndarray, connectivity: int, labels: np.ndarray) -> None:
    """connected-components-3d must part the mask in the same way; it may number the parts as it likes."""
    if mask.ndim == 2:
        connectivity = 4 if connectivity in (4, 6) else 8
    # As uint8: of some bool arrays version 4.1.1 loses voxels under 8 and 26 neighbours, or raises. On 3,000
    # random masks of each kind it differed from scipy in 89 and in 4 as bool, in none as uint8.
    other = cc3d.connected_components(mask.astype(np.uint8), connectivity=connectivity)
    if not same_partition(labels, other):
        raise ValueError(f"scipy and connected-components-3d disagree on connectivity {connectivity}")


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to the choice of numbers: pairs of labels are one-to-one, background with background."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]).astype(np.uint64), axis=1)
    one_to_one = len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    return one_to_one and not ((pairs[0] == 0) != (pairs[1] == 0)).any()


def without_border(labels: np.ndarray) -> np.ndarray:
    """The labels that scikit-image's clear_border leaves."""
    return np.unique(clear_border(labels))


def structure(connectivity: int, axes: int) -> np.ndarray:
    """scipy's structuring element for 6, 18 or 26 neighbours; in two dimensions for 4, or 8 for the other two."""
    steps = {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}[connectivity]
    return ndimage.generate_binary_structure(axes, min(steps, axes))


def objects(image: Answer) -> Answer:
    """The labels as they are."""
    exact(image)
    return replace(image, kind="objects")


def carried(image: Answer) -> float:
    """What a later step makes of a tolerance: that, and the rounding to float32 that lies between the two steps."""
    if not image.tolerance:
        return 0.0
    finite = image.voxels[np.isfinite(image.voxels)]
    return image.tolerance + float(np.spacing(np.abs(finite).max(initial=0)))


def exact(image: Answer) -> None:
    """These steps turn a small difference into a large one, so that a case has to cut such an image first."""
    if image.tolerance or image.unsure is not None:
        raise ValueError("a case asks for an exact answer from an image that is known only within a tolerance")


def keep_clear(image: Answer, cuts: list[float]) -> None:
    """A threshold turns a small difference into a large one where a voxel lies right at it: the case picks another."""
    if not image.tolerance:
        return
    reach = 2 * image.tolerance + np.spacing(np.float32(max(abs(cut) for cut in cuts)))
    for cut in cuts:
        gap = float(np.nanmin(np.abs(image.voxels.astype(np.float64) - cut)))
        if gap <= reach:
            raise ValueError(f"a voxel lies {gap} from the threshold {cut}, within the tolerance {reach}")


STEPS = {
    "rescale": rescale,
    "cast": cast,
    "clip": clip,
    "gaussian": gaussian,
    "median": median,
    "mean": mean,
    "minimum": minimum,
    "maximum": maximum,
    "threshold": threshold,
    "erode": erode,
    "dilate": dilate,
    "open": opening,
    "close": closing,
    "fill_holes": fill_holes,
    "label": label,
    "objects": objects,
}
