"""The conformance matrix: steps by types, boundaries and encodings, made from one seed and judged live.

A cell is an image, small and of an odd shape, and one job. Its reference is that of any other case, from scipy,
scikit-image or numpy on the whole array. It is run twice: in one block, and cut into blocks that divide nothing evenly.
Each of the two reads the image from a Zarr array that zarr-python wrote, in an encoding of its own; the encodings take
turns, so that every one meets every type. The second run has to give the same bits as the first.

`known` has inputs of the kind that the tests of scipy.ndimage and of dask-image are made of, impulses, steps,
checkerboards, diagonals, rings, made anew; there dask-image is asked too, and has to agree with scipy first.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import compare
import numpy as np
import reference
import zarr
from numcodecs import BZ2, Blosc, GZip, Zlib, Zstd
from program import Voxmill
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

SEED = 77
TYPES = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64".split()
MASKS = [dtype for dtype in TYPES if not dtype.startswith("float")]
MODES = ("reflect", "nearest", "mirror", "constant", "constant value={value}")

SOLID = ((7, 6, 11), (1, 7, 9), (5, 1, 8), (4, 9, 1), (1, 1, 1), (2, 9, 5), (13, 3, 4), (1, 1, 17))
FLAT = ((6, 7), (1, 9), (11, 1), (1, 1), (12, 5))
SHAPES = tuple(itertools.chain(*itertools.zip_longest(SOLID, FLAT, fillvalue=(9, 8, 7))))
"""Axes of length 1, axes shorter than any halo, primes; with and without a z axis."""


@dataclass(frozen=True)
class Cell:
    """One square of the matrix."""

    group: str
    """Its line of the report: the family, then what the cells of the line share."""
    steps: str
    voxels: np.ndarray
    asks_dask: bool = False

    @property
    def name(self) -> str:
        """Enough to find it again."""
        shape = "x".join(map(str, self.voxels.shape))
        return f"{self.voxels.dtype} {shape}: {self.steps}"


@dataclass(frozen=True)
class Encoding:
    """A way of writing an array."""

    name: str
    how: Callable[[np.ndarray], dict]
    """zarr-python's keywords beside shape, chunks and type."""
    swapped: bool = False
    """Bytes in big-endian order, which types of one byte don't have."""


def chunks(shape: tuple[int, ...], parts: int = 2) -> tuple[int, ...]:
    """Chunks that leave a part of one over where they can."""
    return tuple(max(1, (n + parts - 1) // parts) for n in shape)


def turned(v: np.ndarray) -> TransposeCodec:
    """The axes from last to first: F order."""
    return TransposeCodec(order=tuple(reversed(range(v.ndim))))


def sharded(v: np.ndarray, **index) -> dict:
    """Shards of two chunks along each axis, which reach beyond the array."""
    inner = chunks(v.shape, 3)
    outer = tuple(2 * n for n in inner)
    return {"chunks": inner, "shards": {"shape": outer, **index} if index else outer}


ENCODINGS = (
    Encoding("v2", lambda v: {"zarr_format": 2}),
    Encoding("v2, no compressor", lambda v: {"zarr_format": 2, "compressors": None}),
    Encoding("v2, F order", lambda v: {"zarr_format": 2, "order": "F", "compressors": Zlib(1)}),
    Encoding("v2, big-endian", lambda v: {"zarr_format": 2, "dtype": v.dtype.newbyteorder(">")}, swapped=True),
    Encoding(
        "v2, big-endian, F order, gzip",
        lambda v: {"zarr_format": 2, "dtype": v.dtype.newbyteorder(">"), "order": "F", "compressors": GZip(1)},
        swapped=True,
    ),
    Encoding("v2, blosc", lambda v: {"zarr_format": 2, "compressors": Blosc("lz4", 5, Blosc.SHUFFLE)}),
    Encoding("v2, blosc with bits", lambda v: {"zarr_format": 2, "compressors": Blosc("zstd", 3, Blosc.BITSHUFFLE)}),
    Encoding("v2, zstd, slashes", lambda v: {"zarr_format": 2, "compressors": Zstd(3), "chunk_key_encoding": SLASHES}),
    Encoding("v3", lambda v: {}),
    Encoding("v3, no compressor", lambda v: {"compressors": None}),
    Encoding("v3, big-endian", lambda v: {"serializer": BytesCodec(endian="big")}, swapped=True),
    Encoding("v3, F order", lambda v: {"filters": [turned(v)]}),
    Encoding("v3, gzip", lambda v: {"compressors": [GzipCodec(level=1)]}),
    Encoding("v3, blosc", lambda v: {"compressors": [BloscCodec(cname="lz4", shuffle="shuffle", typesize=v.itemsize)]}),
    Encoding("v3, zstd, crc32c", lambda v: {"compressors": [ZstdCodec(level=3), Crc32cCodec()]}),
    Encoding("v3, keys of v2", lambda v: {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    Encoding("v3, one chunk larger than the array", lambda v: {"chunks": tuple(n + 5 for n in v.shape)}),
    Encoding("v3, chunks of one voxel's width", lambda v: {"chunks": (*v.shape[:-1], 1)}),
    Encoding("v3, sharded", sharded),
    Encoding("v3, sharded, index first", lambda v: sharded(v, index_location="start")),
    Encoding(
        "v3, sharded, F order, gzip",
        lambda v: {"filters": [turned(v)], "compressors": [GzipCodec(level=1)], **sharded(v)},
    ),
    Encoding(
        "v3, sharded, big-endian, no compressor",
        lambda v: {"serializer": BytesCodec(endian="big"), "compressors": None, **sharded(v)},
        swapped=True,
    ),
)
SLASHES = {"name": "v2", "separator": "/"}


def write(path: Path, voxels: np.ndarray, encoding: Encoding) -> None:
    """One array, by zarr-python."""
    settings = {"chunks": chunks(voxels.shape), "dtype": voxels.dtype} | encoding.how(voxels)
    zarr.create_array(path, shape=voxels.shape, **settings)[...] = voxels


def encodings_of(dtype: np.dtype, turn: int) -> tuple[Encoding, Encoding]:
    """Two for the cell of that number among those of its type."""
    fitting = [encoding for encoding in ENCODINGS if dtype.itemsize > 1 or not encoding.swapped]
    return fitting[2 * turn % len(fitting)], fitting[(2 * turn + 1) % len(fitting)]


def flags(voxels: np.ndarray, cut: bool) -> tuple[str, ...]:
    """The run in one block, or cut up."""
    if not cut:
        return ("--chunks", "64", "--shards", "none", "--block", "64")
    sides = ",".join(str(max(1, math.ceil(n / 2))) for n in voxels.shape)
    return ("--chunks", sides, "--shards", "none", "--block", sides, "--workers", "2")


@cache
def cells() -> tuple[Cell, ...]:
    """All of them, always the same."""
    return (*values(), *filters(), *thresholds(), *morphology(), *labels(), *known())


def image(dtype: str, turn: int, shape: tuple[int, ...], look: str = "spread") -> np.ndarray:
    """Voxels of that type: `spread` over all it holds, its last values among them, or in float some thousands; `broken`
    by NaN and infinities; `masked`, most of it 0 or most of it not."""
    rng = np.random.default_rng([SEED, TYPES.index(dtype), turn])
    to = np.dtype(dtype)
    if look == "masked":
        inside = rng.random(shape) < (0.15, 0.5, 0.85)[turn % 3]
        return np.where(inside, 1 if dtype == "bool" else np.array(-1).astype(to), 0).astype(to)
    if dtype == "bool":
        return rng.random(shape) < 0.4
    if to.kind == "f":
        v = np.round(rng.normal(0, 900, shape), 3).astype(to)
        if look == "broken":
            odd = rng.random(shape) < 0.15
            v[odd] = rng.choice([np.nan, np.inf, -np.inf], odd.sum())
        return v
    least, most = np.iinfo(to).min, np.iinfo(to).max
    v = rng.integers(least, most, shape, dtype=to, endpoint=True)
    last = rng.random(shape) < 0.2
    v[last] = rng.choice(np.array([least, most, 0, 1], to), last.sum())
    return v


def look_of(dtype: str, turn: int) -> str:
    """Every second float image is broken."""
    return "broken" if dtype.startswith("float") and turn % 2 else "spread"


def values() -> Iterator[Cell]:
    """rescale, clip and cast."""
    for dtype in TYPES:
        jobs = ["rescale multiply=3 divide=7 add=-0.1", "rescale divide=255 invert", "clip low=-7 high=100"]
        jobs += ["clip low=0.5", "clip high=1e300" if dtype != "float32" else "clip high=-0.25"]
        jobs += [f"cast dtype={to}" for to in TYPES]
        for turn, steps in enumerate(jobs):
            shape = SHAPES[turn % len(SHAPES)]
            yield Cell(f"values {dtype}", steps, image(dtype, turn, shape, look_of(dtype, turn)))


def filters() -> Iterator[Cell]:
    """gaussian, mean, median, minimum and maximum: small windows, one for each axis, and halos deeper than the axes."""
    windows = {3: ("3", "1,3,5", "15", "5,1,9"), 2: ("3", "3,7", "17", "1,5")}
    sigmas = {3: ("0.8", "0,1.5,0.7", "3", "1,0,2.5"), 2: ("0.8", "0.7,2", "3.5", "0,1")}
    for op, dtype in itertools.product(("gaussian", "mean", "median", "minimum", "maximum"), TYPES):
        for turn, (mode, deep) in enumerate(itertools.product(MODES, (False, True))):
            # Rank filters keep the type, which has to hold the value; 1 is in all of them.
            mode = mode.format(value="-2.5" if op in ("gaussian", "mean") else "1")
            shape = SHAPES[(turn + TYPES.index(dtype)) % len(SHAPES)]
            sizes = (sigmas if op == "gaussian" else windows)[len(shape)]
            size = sizes[2] if deep else sizes[(0, 1, 3)[turn // 2 % 3]]
            steps = f"{op} {'sigma' if op == 'gaussian' else 'size'}={size} mode={mode}"
            voxels = image(dtype, 100 + turn, shape, look_of(dtype, turn // 3))
            yield Cell(f"filters {op} {dtype}", steps, voxels)


def thresholds() -> Iterator[Cell]:
    """threshold at fixed numbers, also ones no voxel of the type can have, and at percentiles."""
    jobs = ("above=0", "above=0.5 invert", "below=100", "below=-1e300", "between=-3.5,127", "between=0,inf invert")
    for dtype in TYPES:
        for turn, rule in enumerate((*jobs, "above=9223372036854775807", "percentile=50", "percentile=0 invert")):
            shape = SHAPES[(2 * turn) % len(SHAPES)]
            look = "spread" if "percentile" in rule else look_of(dtype, turn)
            yield Cell(f"thresholds {dtype}", f"threshold {rule}", image(dtype, 200 + turn, shape, look))


def morphology() -> Iterator[Cell]:
    """erode, dilate, open and close by every footprint, in images with and without a z axis."""
    footprints = {
        3: ("ball=1", "ball=2.5", "ball=1,2,1.5", "ball=0,3,4", "box=1", "box=0,2,1", "cross=1", "cross=3", "box=9"),
        2: ("ball=1", "ball=2.5", "ball=1.5,3", "ball=0,4", "box=1", "box=0,2", "cross=1", "cross=3", "cross=12"),
    }
    types = itertools.cycle(MASKS)
    for op, outside, axes in itertools.product(("erode", "dilate", "open", "close"), ("ignore", "zero"), (3, 2)):
        for turn, shape in enumerate(footprints[axes]):
            dtype = next(types)
            of = (SOLID if axes == 3 else FLAT)[turn % (4 if axes == 3 else 3)]
            voxels = image(dtype, 300 + turn, tuple(n + 2 if n > 1 else n for n in of), "masked")
            yield Cell(f"morphology {op} {outside}", f"{op} {shape} outside={outside}", voxels)


def labels() -> Iterator[Cell]:
    """label, by every connectivity; every value but 0 is foreground."""
    for dtype in MASKS:
        for turn, (axes, connectivity) in enumerate([(3, 6), (3, 18), (3, 26), *((2, c) for c in (4, 6, 8, 18, 26))]):
            of = (SOLID if axes == 3 else FLAT)[turn % 4]
            voxels = image(dtype, 400 + turn, tuple(n + 3 if n > 1 else n for n in of), "masked")
            yield Cell(f"labels {dtype}", f"label connectivity={connectivity}", voxels)


def known() -> Iterator[Cell]:
    """Small structured inputs, most of them so plain that the answer can be told by hand."""
    for name, voxels in structured().items():
        mask, grey = voxels.astype(np.uint8), (voxels * 200).astype(np.float32)
        for steps in ("label connectivity=6", f"label connectivity={26 if voxels.ndim == 3 else 8}"):
            yield Cell(f"known {name}", steps, mask, asks_dask=True)
        for op in ("erode", "dilate", "open", "close"):
            for shape in ("cross=1", "box=1"):
                yield Cell(f"known {name}", f"{op} {shape} outside=zero", mask, asks_dask=True)
        for steps in ("gaussian sigma=1", "gaussian sigma=0.6 mode=constant", "mean size=3", "mean size=5 mode=mirror"):
            yield Cell(f"known {name}", steps, grey, asks_dask=True)
        for steps in ("median size=3", "minimum size=3 mode=nearest", "maximum size=5 mode=constant value=3"):
            yield Cell(f"known {name}", steps, grey, asks_dask=True)


def structured() -> dict[str, np.ndarray]:
    """Masks, by what they show."""
    z, y, x = np.indices((9, 10, 11))
    v, u = np.indices((12, 13))
    ring = np.maximum(abs(v - 5), abs(u - 6))
    tunnel = np.maximum(abs(y - 4), abs(x - 5))
    return {
        "nothing": z < 0,
        "everything": z >= 0,
        "impulse": (z == 4) & (y == 5) & (x == 6),
        "impulse in a corner": (z == 0) & (y == 0) & (x == 10),
        "two impulses that touch by a corner": ((z == 3) & (y == 3) & (x == 3)) | ((z == 4) & (y == 4) & (x == 4)),
        "step": x > 5,
        "planes": z % 2 == 0,
        "checkerboard": (z + y + x) % 2 == 0,
        "diagonal": (z == y) & (y == x),
        "diagonal plane": z + y == x,
        "tunnel": tunnel == 3,
        "shell": np.maximum(tunnel, abs(z - 4)) == 4,
        "flat checkerboard": (v + u) % 2 == 0,
        "flat diagonals": (v == u) | (v + u == 9),
        "flat rings": ring % 2 == 0,
        "flat comb": ((u % 2 == 0) & (v < 10)) | (v == 0),
        "flat spiral": spiral(13),
        "flat plus": (v == 6) | (u == 6),
    }


def spiral(n: int) -> np.ndarray:
    """One path inwards, a voxel thick: a single object that parts of the image know as many."""
    drawn = np.zeros((n, n), bool)
    at, step = np.array([0, 0]), np.array([0, 1])
    drawn[0, 0] = True
    for length in [n - 1, *(side for side in range(n - 1, 0, -2) for _ in range(2))]:
        for _ in range(length):
            at = at + step
            if (at < 0).any() or (at >= n).any():
                at = at - step
                break
            drawn[tuple(at)] = True
        step = np.array([step[1], -step[0]])
    return drawn


def groups() -> dict[str, list[tuple[int, Cell]]]:
    """The lines of the report; each cell with its number among those of its type, by which encodings take turns."""
    lines: dict[str, list[tuple[int, Cell]]] = {}
    turns: Counter[str] = Counter()
    for cell in cells():
        lines.setdefault(cell.group, []).append((turns[cell.voxels.dtype.name], cell))
        turns[cell.voxels.dtype.name] += 1
    return lines


def counted() -> str:
    """How many cells each family has, in a line."""
    families = Counter(cell.group.split()[0] for cell in cells())
    return f"the matrix has {sum(families.values())} cells: " + ", ".join(f"{n} {f}" for f, n in families.items())


def judge_group(voxmill: Voxmill, group: list[tuple[int, Cell]], folder: Path) -> str | None:
    """All cells of a line; says which are wrong."""
    wrong = []
    for number, (turn, cell) in enumerate(group):
        found = judge_cell(voxmill, cell, turn, folder / f"{number:02}")
        if found:
            wrong.append(f"{cell.name}: {found}")
    if not wrong:
        return None
    return f"{len(wrong)} of {len(group)} cells, the first {wrong[0]}"


def judge_cell(voxmill: Voxmill, cell: Cell, turn: int, folder: Path) -> str | None:
    """Both runs of a cell."""
    folder.mkdir(parents=True)
    expected = reference.answer(cell.voxels, cell.steps)
    if cell.asks_dask and (wrong := dask_differs(cell, expected)):
        return wrong
    name, axes = "labels" if expected.kind == "labels" else "result", cell.voxels.ndim
    found = []
    for encoding, cut in zip(encodings_of(cell.voxels.dtype, turn), (False, True)):
        source = folder / f"{'cut' if cut else 'whole'}.zarr"
        write(source, cell.voxels, encoding)
        out = voxmill.run(source, folder / source.stem, cell.steps, flags(cell.voxels, cut))
        found.append(out.image(name, axes))
        if wrong := compare.wrong_image(found[-1], expected):
            return f"{encoding.name}, {source.stem}: {wrong}"
    if found[0].tobytes() != found[1].tobytes():
        return f"cut up, {int((found[0] != found[1]).sum())} voxels are other than in one block"
    return None


def dask_differs(cell: Cell, expected: reference.Answer) -> str | None:
    """dask-image on the same array, cut into two chunks along each axis."""
    from dask import array, config
    from dask_image import ndfilters, ndmeasure, ndmorph

    ((op, parameters),) = reference.parse(cell.steps)
    cut = array.from_array(cell.voxels, chunks=tuple(math.ceil(n / 2) for n in cell.voxels.shape))
    with config.set(scheduler="synchronous"):
        if op == "label":
            neighbours = reference.structure(parameters["connectivity"], cell.voxels.ndim)
            theirs = np.asarray(ndmeasure.label(cut, neighbours)[0])
            same = reference.same_partition(expected.voxels, theirs)
        elif op in ("erode", "dilate", "open", "close"):
            name = {"erode": "erosion", "dilate": "dilation", "open": "opening", "close": "closing"}[op]
            shape = {key: radius for key, radius in parameters.items() if key != "outside"}
            element = reference.footprint(cell.voxels.ndim, **shape)
            theirs = np.asarray(getattr(ndmorph, f"binary_{name}")(cut, structure=element))
            same = np.array_equal(theirs, expected.voxels)
        else:
            name = {"mean": "uniform"}.get(op, op)
            size = {"sigma" if op == "gaussian" else "size": parameters["sigma" if op == "gaussian" else "size"]}
            beyond = {"mode": parameters.get("mode", "reflect"), "cval": parameters.get("value", 0.0)}
            theirs = np.asarray(getattr(ndfilters, f"{name}_filter")(cut.astype(np.float64), **size, **beyond))
            same = np.allclose(theirs, expected.voxels, rtol=1e-6, atol=1e-6 * float(np.abs(cell.voxels).max()))
    return None if same else "scipy and dask-image disagree"
