"""Inputs as other programs write them: Zarr arrays and groups by zarr-python, volumes by tifffile and numpy.

Each is read by `median size=1`, which gives every voxel back as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import images
import numpy as np
import tifffile
import zarr
from program import Voxmill
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

SHAPE = (21, 18, 25)


@dataclass(frozen=True)
class Input:
    """One line of the report: how it is written, what is expected to be read."""

    name: str
    write: Callable[[Path, np.ndarray], None]
    voxels: np.ndarray
    file: str = "input.zarr"
    """What `write` is given; other than .zarr it is imported first."""
    url: str = ""
    """What is appended to it when it is read."""
    flags: tuple[str, ...] = ()

    def place(self, voxmill: Voxmill, folder: Path) -> Path:
        """Writes it, and imports it where it is no Zarr; returns what to run on."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file
        self.write(path, self.voxels)
        if path.suffix == ".zarr":
            return path / self.url
        image = folder / "imported.zarr"
        voxmill.call("import", str(path), str(image), "--chunks", "8", "--shards", "2")
        return image


def inputs() -> list[Input]:
    """All of them."""
    return [*version_2(), *version_3(), *sparse(), *groups(), *files()]


def crop(dtype: str) -> np.ndarray:
    """A box of an image of that type."""
    return np.ascontiguousarray(images.load(dtype)[tuple(slice(n) for n in SHAPE)])


def array(**how) -> Callable[[Path, np.ndarray], None]:
    """Writes one array with zarr-python's own keywords."""

    def write(path: Path, voxels: np.ndarray) -> None:
        settings = {"chunks": (8, 7, 9), "dtype": voxels.dtype} | how
        zarr.create_array(path, shape=voxels.shape, **settings)[...] = voxels

    return write


def version_2() -> list[Input]:
    """Zarr v2: both orders of axes and of bytes, its usual compressors, both separators of keys."""
    from numcodecs import BZ2, CRC32C, Adler32, BitRound, Blosc, FixedScaleOffset, Fletcher32, GZip, Shuffle, Zlib, Zstd

    def v2(name: str, dtype: str, **how) -> Input:
        return Input(f"zarr v2, {dtype}, {name}", array(zarr_format=2, **how), crop(dtype))

    whole = crop("uint16").astype(np.float64)
    scaled = array(zarr_format=2, filters=[FixedScaleOffset(100, 2, "<f8", "<i4")], compressors=None)
    big = [
        Input(
            f"zarr v2, {dtype}, big-endian", array(zarr_format=2, dtype=np.dtype(dtype).newbyteorder(">")), crop(dtype)
        )
        for dtype in ("uint16", "int64", "float32")
    ]
    slashes = {"name": "v2", "separator": "/"}
    return [
        v2("defaults", "uint8"),
        v2("no compressor", "int16", compressors=None),
        v2("F order", "uint16", order="F"),
        v2("F order, blosc with shuffle", "float32", order="F", compressors=Blosc("lz4", 5, Blosc.SHUFFLE)),
        v2("blosc with bit-shuffle", "int32", compressors=Blosc("zstd", 3, Blosc.BITSHUFFLE)),
        v2("gzip", "float64", compressors=GZip(5)),
        v2("zlib", "uint32", compressors=Zlib(5)),
        v2("zstd, keys with slashes", "uint64", compressors=Zstd(3), chunk_key_encoding=slashes),
        v2("bool", "bool"),
        v2("bz2", "uint16", compressors=BZ2(5)),
        v2("adler32", "uint8", compressors=Adler32()),
        v2("crc32c", "int32", compressors=CRC32C()),
        v2("fletcher32, then zlib", "uint32", filters=[Fletcher32()], compressors=Zlib(1)),
        v2("shuffled, F order", "uint16", order="F", filters=[Shuffle(2)], compressors=Zstd(3)),
        v2("rounded to all its bits", "float32", filters=[BitRound(23)], compressors=Zstd(3)),
        Input("zarr v2, float64, scaled and kept as int32", scaled, whole),
        *big,
    ]


def version_3() -> list[Input]:
    """Zarr v3: every type; codecs, shards, the order of axes and bytes."""

    def v3(name: str, dtype: str, **how) -> Input:
        return Input(f"zarr v3, {dtype}, {name}", array(**how), crop(dtype))

    from zarr.codecs.numcodecs import BZ2, Adler32, Fletcher32, Shuffle, Zlib

    sharded = {"chunks": (4, 7, 9), "shards": (12, 14, 27)}
    dots = {"name": "default", "separator": "."}
    return [
        *[
            v3("defaults", dtype)
            for dtype in "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float32 float64".split()
        ],
        v3("big-endian", "uint16", serializer=BytesCodec(endian="big")),
        v3("F order", "int32", filters=[TransposeCodec(order=(2, 1, 0))]),
        v3(
            "axes in turn, big-endian, gzip",
            "float64",
            filters=[TransposeCodec(order=(1, 2, 0))],
            serializer=BytesCodec(endian="big"),
            compressors=[GzipCodec(level=5)],
        ),
        v3("blosc", "uint16", compressors=[BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)]),
        v3("zstd, then crc32c", "int16", compressors=[ZstdCodec(level=5), Crc32cCodec()]),
        v3("no compressor, keys with dots", "uint8", compressors=None, chunk_key_encoding=dots),
        v3("keys of v2", "uint8", chunk_key_encoding={"name": "v2", "separator": "."}),
        v3("sharded", "uint16", **sharded),
        v3(
            "sharded, index first",
            "float32",
            chunks=(4, 7, 9),
            shards={"shape": (12, 14, 27), "index_location": "start"},
        ),
        v3(
            "sharded, F order, gzip",
            "int64",
            filters=[TransposeCodec(order=(2, 0, 1))],
            compressors=[GzipCodec(level=1)],
            **sharded,
        ),
        v3("one chunk larger than the array", "uint8", chunks=(64, 64, 64)),
        v3("zlib", "uint16", compressors=[Zlib(level=5)]),
        v3("bz2", "float32", compressors=[BZ2(level=5)]),
        v3("adler32", "int8", compressors=[Adler32()]),
        v3("fletcher32", "int64", compressors=[Fletcher32()]),
        v3("shuffled", "uint32", compressors=[Shuffle(elementsize=4), ZstdCodec(level=5)]),
        v3("sharded, bz2", "uint16", compressors=[BZ2(level=1)], **sharded),
    ]


def sparse() -> list[Input]:
    """Arrays of which most chunks were never written: there the fill value stands."""

    def write(how: dict) -> Callable[[Path, np.ndarray], None]:
        def write_corner(path: Path, voxels: np.ndarray) -> None:
            stored = zarr.create_array(path, shape=voxels.shape, dtype=voxels.dtype, **({"chunks": (8, 7, 9)} | how))
            stored[8:16, 7:14, :9] = voxels[8:16, 7:14, :9]

        return write_corner

    def one(name: str, dtype: str, fill, **how) -> Input:
        voxels = np.full(SHAPE, fill, dtype)
        voxels[8:16, 7:14, :9] = crop(dtype)[8:16, 7:14, :9]
        return Input(f"missing chunks, {name}, {dtype} filled with {fill}", write({"fill_value": fill, **how}), voxels)

    return [
        one("zarr v3", "uint16", 7),
        one("zarr v3", "int8", -3),
        one("zarr v3", "bool", True),
        one("zarr v3", "float32", np.nan),
        one("zarr v3", "float64", -np.inf),
        one("zarr v3", "uint64", 2**63 + 5),
        one("zarr v3 sharded", "int16", -9, chunks=(4, 7, 3), shards=(8, 14, 9)),
        one("zarr v2", "float32", np.nan, zarr_format=2),
        one("zarr v2 F order", "int32", -70_000, zarr_format=2, order="F"),
        one("zarr v2", "uint8", 0, zarr_format=2),
    ]


def multiscales(version: str, axes: str, paths: list[str]) -> dict:
    """The metadata of an OME-Zarr image in the form of its version."""
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    scale = [[1.0 if a in kinds else 2.0**level for a in axes] for level in range(len(paths))]
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale[level]}]}
        for level, path in enumerate(paths)
    ]
    image = {"axes": described, "datasets": datasets, "name": "image"}
    if version == "0.4":
        return {"multiscales": [{"version": "0.4", **image}]}
    return {"ome": {"version": version, "multiscales": [image]}}


def groups() -> list[Input]:
    """Arrays inside groups: OME-Zarr images, their levels, channels and time points, and a plain group."""

    def image(version: str, axes: str, stack: Callable[[np.ndarray], list[np.ndarray]]):
        def write(path: Path, voxels: np.ndarray) -> None:
            zarr_format = 2 if version == "0.4" else 3
            levels = stack(voxels)
            paths = [str(level) for level in range(len(levels))]
            group = zarr.create_group(path, zarr_format=zarr_format, attributes=multiscales(version, axes, paths))
            named = {"dimension_names": list(axes)} if zarr_format == 3 else {}
            for name, level in zip(paths, levels):
                group.create_array(name, shape=level.shape, dtype=level.dtype, chunks=level.shape, **named)[...] = level

        return write

    def series(path: Path, voxels: np.ndarray) -> None:
        zarr.create_group(path, zarr_format=2, attributes={"bioformats2raw.layout": 3})
        for number, stack in enumerate([voxels // 2, voxels]):
            image("0.4", "tczyx", lambda v: [v[None, None]])(path / str(number), stack)

    def nested(path: Path, voxels: np.ndarray) -> None:
        zarr.create_group(path)
        image("0.5", "zyx", lambda v: [v])(path / "day" / "cells", voxels)

    def plain(path: Path, voxels: np.ndarray) -> None:
        zarr.create_group(path).create_array("volume", shape=voxels.shape, dtype=voxels.dtype)[...] = voxels

    grey = crop("uint16")
    coarse = np.ascontiguousarray(grey[::2, ::2, ::2])
    return [
        Input("OME-Zarr 0.4, zyx", image("0.4", "zyx", lambda v: [v]), grey),
        Input("OME-Zarr 0.5, zyx, level 1", image("0.5", "zyx", lambda v: [grey, v]), coarse, flags=("--level", "1")),
        Input("OME-Zarr 0.5, level 1 by its path", image("0.5", "zyx", lambda v: [grey, v]), coarse, url="1"),
        Input("OME-Zarr 0.4, tczyx of one", image("0.4", "tczyx", lambda v: [v[None, None]]), grey),
        Input(
            "OME-Zarr 0.5, czyx, channel 1",
            image("0.5", "czyx", lambda v: [np.stack([v // 2, v])]),
            grey,
            flags=("--channel", "1"),
        ),
        Input(
            "OME-Zarr 0.5, tcyx",
            image("0.5", "tcyx", lambda v: [np.stack([[v + 1], [v + 2], [v]])]),
            grey[3].copy(),
            flags=("--time", "2"),
        ),
        Input("a group with one array", plain, grey),
        Input("bioformats2raw, series 1", series, grey, flags=("--series", "1")),
        Input("an image in groups", nested, grey, url="day/cells"),
    ]


def files() -> list[Input]:
    """TIFF and npy files, through `voxmill import`."""

    def tiff(**how) -> Callable[[Path, np.ndarray], None]:
        return lambda path, voxels: tifffile.imwrite(path, voxels, photometric="minisblack", metadata=None, **how)

    def npy(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, np.ndarray], None]:
        return lambda path, voxels: np.save(path, change(voxels))

    as_bytes = crop("bool")[4].astype(np.uint8)
    types = "uint8 int8 uint16 int16 uint32 int32 float32 float64".split()
    return [
        *[Input(f"TIFF, {dtype}", tiff(), crop(dtype), "input.tif") for dtype in types],
        Input("TIFF, big-endian", tiff(byteorder=">"), crop("uint16"), "input.tif"),
        Input(
            "TIFF, deflate in strips of 5 rows", tiff(compression="zlib", rowsperstrip=5), crop("int16"), "input.tif"
        ),
        Input("BigTIFF", tiff(bigtiff=True), crop("float32"), "input.tif"),
        Input("TIFF of one page", tiff(), crop("uint8")[4].copy(), "input.tif"),
        Input("npy, Fortran order", npy(np.asfortranarray), crop("int32"), "input.npy"),
        Input("npy, big-endian", npy(lambda v: v.astype(">f4")), crop("float32"), "input.npy"),
        # An image of bool is stored as uint8, 0 and 1, also by an import.
        Input("npy, Fortran order, bool, 2-D", npy(lambda v: np.asfortranarray(v != 0)), as_bytes, "input.npy"),
    ]
