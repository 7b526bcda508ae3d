"""Makes zarr_python.json: small arrays as zarr-python writes them, and what it reads back.

    pip install zarr==3.1.6 numcodecs==0.16.6 && python zarr_python.py

The Rust tests unpack the files and must read the same voxels. They don't need Python.
"""

import json
import pathlib
import tempfile
import warnings

import numcodecs
import numpy as np
import zarr
import zarr.codecs.numcodecs as numcodecs_v3
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

cases = []


def voxels(shape, dtype):
    """All bits in use: multiples of a big odd number, cut to the element's width."""
    dtype = np.dtype(dtype).newbyteorder("<")
    n = int(np.prod(shape))
    if dtype == bool:
        flat = np.arange(n) % 3 == 0
    elif dtype.kind == "f":
        flat = np.arange(n) * 0.37 - 5
    else:
        bits = np.arange(n, dtype="u8") * np.uint64(0x0123456789ABCDEF)
        flat = bits.astype(f"u{dtype.itemsize}").view(dtype)
    return flat.astype(dtype).reshape(shape)


def case(name, shape, dtype, part=..., pick=None, selection=..., **options):
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create(shape=shape, dtype=dtype, store=folder, overwrite=True, **options)
        array[part] = voxels(shape, dtype)[part]
        seen = np.ascontiguousarray(zarr.open(folder, mode="r")[...][selection])
        seen = seen.astype(seen.dtype.newbyteorder("<"))
        root = pathlib.Path(folder)
        paths = {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}
        documents = {k: json.loads(p.read_text()) for k, p in paths.items() if k[:2] == ".z" or k == "zarr.json"}
        chunks = {k: p.read_bytes().hex() for k, p in paths.items() if k not in documents}
    cases.append({
        "name": name,
        "pick": pick or {},
        "dtype": seen.dtype.name,
        "shape": list(seen.shape),
        "voxels": seen.tobytes().hex(),
        "documents": documents,
        "chunks": chunks,
    })


S, C = (3, 5, 7), (2, 2, 4)
for dtype in ["|b1", "|u1", "|i1", "<u2", ">u2", "<i2", ">i4", "<u4", ">u8", "<i8", "<f4", ">f4", "<f8", ">f8"]:
    case(f"v2 {dtype}", S, dtype, chunks=C, zarr_format=2, compressor=None)
packers = {
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "zstd": numcodecs.Zstd(),
    "blosc lz4 shuffle": numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.SHUFFLE),
    "blosc zstd bits": numcodecs.Blosc("zstd", shuffle=numcodecs.Blosc.BITSHUFFLE),
    "blosc auto": numcodecs.Blosc("blosclz", shuffle=numcodecs.Blosc.AUTOSHUFFLE),
}
for name, packer in packers.items():
    case(f"v2 {name}", S, "<u2", chunks=C, zarr_format=2, compressor=packer)
checks = {
    "bz2": ([], numcodecs.BZ2()),
    "adler32": ([], numcodecs.Adler32()),
    "fletcher32": ([numcodecs.Fletcher32()], numcodecs.Zlib()),
    "shuffle": ([numcodecs.Shuffle(4)], numcodecs.Zstd()),
    "crc32c": ([], numcodecs.CRC32C()),
    "empty filters": ([], numcodecs.BZ2()),
}
for name, (filters, packer) in checks.items():
    case(f"v2 {name}", S, "<u4", chunks=C, zarr_format=2, filters=filters or None, compressor=packer)
case("v2 bitround", S, "<f4", chunks=C, zarr_format=2, filters=[numcodecs.BitRound(7)], compressor=numcodecs.Zstd())
case("v2 fixedscaleoffset", S, "<f8", chunks=C, zarr_format=2, compressor=None,
     filters=[numcodecs.FixedScaleOffset(offset=-5, scale=100, dtype="<f8", astype="<u2")])
case("v2 without fill value", S, "<u2", chunks=C, zarr_format=2, compressor=None, fill_value=None)
case("v2 F order, shuffled", S, "<u2", chunks=C, zarr_format=2, compressor=numcodecs.Zlib(),
     filters=[numcodecs.Shuffle(2)], order="F")
for shape in [(1, 5, 7), (6, 1, 1), (1, 1, 9), (1, 1, 1)]:
    case(f"v2 {shape}", shape, "<u2", chunks=C, zarr_format=2, compressor=numcodecs.Zstd())
case("v2 F order column", (6, 1), ">u2", chunks=(4, 4), zarr_format=2, compressor=None, order="F")
case("v2 F order", S, "<i4", chunks=C, zarr_format=2, compressor=numcodecs.Zstd(), order="F")
case("v2 F order big-endian slash", S, ">f8", chunks=C, zarr_format=2, compressor=None, order="F", dimension_separator="/")
case("v2 missing chunks", S, "<f4", chunks=C, zarr_format=2, compressor=None, fill_value=np.nan, part=np.s_[:2, :2])
case("v2 one chunk larger than the array", (2, 3), "|u1", chunks=(8, 8), zarr_format=2)

plain = {"none": [], "gzip": [GzipCodec()], "zstd": [ZstdCodec()], "zstd checksum": [ZstdCodec(checksum=True)],
         "blosc": [BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)], "crc32c": [Crc32cCodec()],
         "crc32c in zstd": [Crc32cCodec(), ZstdCodec()]}
for name, codecs in plain.items():
    case(f"v3 {name}", S, "uint32", chunks=C, zarr_format=3, codecs=[BytesCodec(endian="little"), *codecs])
    case(f"v3 {name} big", S, ">f8", chunks=C, zarr_format=3, codecs=[BytesCodec(endian="big"), *codecs])
for dtype in ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]:
    for endian in ["little", "big"]:
        case(f"v3 {dtype} {endian}", S, dtype, chunks=C, zarr_format=3, codecs=[BytesCodec(endian=endian)])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    numcodecs_of_v3 = {
        "zlib": [numcodecs_v3.Zlib()],
        "bz2": [numcodecs_v3.BZ2()],
        "adler32": [numcodecs_v3.Adler32()],
        "fletcher32": [numcodecs_v3.Fletcher32()],
        "shuffle": [numcodecs_v3.Shuffle(elementsize=4), ZstdCodec()],
    }
    for name, codecs in numcodecs_of_v3.items():
        case(f"v3 numcodecs.{name}", S, "uint32", chunks=C, zarr_format=3, codecs=[BytesCodec(), *codecs])
    case("v3 numcodecs.bitround", S, "float32", chunks=C, zarr_format=3,
         codecs=[numcodecs_v3.BitRound(keepbits=7), BytesCodec(), ZstdCodec()])
    case("v3 numcodecs.fixedscaleoffset", S, "float64", chunks=C, zarr_format=3, codecs=[
        numcodecs_v3.FixedScaleOffset(offset=-5, scale=100, dtype="<f8", astype="<u2"), BytesCodec()])
    case("shards, bz2 inside", S, "uint16", chunks=(2, 4, 8), zarr_format=3,
         codecs=[ShardingCodec(chunk_shape=C, codecs=[BytesCodec(), numcodecs_v3.BZ2()])])
for shape in [(1, 5, 7), (6, 1, 1), (1, 1, 9), (1, 1, 1)]:
    case(f"v3 {shape}", shape, "uint16", chunks=C, zarr_format=3, codecs=[BytesCodec(), ZstdCodec()])
case("v3 one chunk larger than the array", (2, 3, 2), "float32", chunks=(64, 64, 64), zarr_format=3,
     codecs=[BytesCodec(), ZstdCodec()])
case("v3 mostly missing", (8, 12, 20), "uint8", chunks=(4, 4, 4), zarr_format=3, part=np.s_[4:6, 9:11, 10:12],
     codecs=[BytesCodec(), ZstdCodec()])
for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
    case(f"v3 transposed {order}", S, "int32", chunks=(2, 3, 4), zarr_format=3,
         codecs=[TransposeCodec(order=order), BytesCodec(endian="big"), GzipCodec()])
for keys in [("default", "/"), ("default", "."), ("v2", "."), ("v2", "/")]:
    case(f"v3 keys {keys}", S, "uint16", chunks=C, zarr_format=3, chunk_key_encoding=keys, codecs=[BytesCodec()])
case("v3 big-endian", S, "int16", chunks=C, zarr_format=3, codecs=[BytesCodec(endian="big")])
case("v3 bool", S, "bool", chunks=C, zarr_format=3, codecs=[BytesCodec(), ZstdCodec()])
case("v3 transposed", S, "float32", chunks=C, zarr_format=3,
     codecs=[TransposeCodec(order=(2, 0, 1)), BytesCodec(endian="little"), ZstdCodec()])
case("v3 dots and missing", S, "int64", chunks=C, zarr_format=3, fill_value=-7, part=np.s_[1:, 2:4],
     chunk_key_encoding=("default", "."), codecs=[BytesCodec(endian="little")])
case("v3 with v2 keys", S, "uint8", chunks=C, zarr_format=3, chunk_key_encoding=("v2", "/"), codecs=[BytesCodec()])


def sharded(index_location="end", inner=None, chunk=C, **more):
    inner = inner or [BytesCodec(endian="little"), ZstdCodec()]
    return [ShardingCodec(chunk_shape=chunk, codecs=inner, index_location=index_location, **more)]


L = (5, 9, 13)
case("shards, index at end", L, "uint16", chunks=(4, 4, 8), zarr_format=3, codecs=sharded())
case("shards, index at start", L, "float64", chunks=(4, 4, 8), zarr_format=3, codecs=sharded("start"))
case("shards, index without checksum", L, "uint8", chunks=(4, 4, 8), zarr_format=3,
     codecs=sharded(index_codecs=[BytesCodec(endian="little")]))
case("shards with holes", L, "int32", chunks=(4, 4, 8), zarr_format=3, fill_value=5, part=np.s_[:3, :5, 9:], codecs=sharded())
case("shards, transposed inside", L, "int8", chunks=(4, 4, 8), zarr_format=3,
     codecs=sharded(inner=[TransposeCodec(order=(2, 1, 0)), BytesCodec(), GzipCodec()]))
case("shards in shards", L, "uint16", chunks=(4, 4, 8), zarr_format=3, codecs=sharded(inner=sharded(chunk=(1, 2, 2))))
case("shards in shards in shards", (8, 8, 16), "int16", chunks=(8, 8, 16), zarr_format=3, part=np.s_[1:7, 3:, :11],
     fill_value=-3, codecs=sharded("start", sharded("end", sharded(chunk=(1, 2, 2)), (2, 4, 4)), (4, 8, 8)))
case("transposed shards", (5, 9, 13), "int32", chunks=(4, 4, 8), zarr_format=3, part=np.s_[:3, :5, :9], fill_value=9,
     codecs=[TransposeCodec(order=(2, 0, 1)), *sharded(chunk=(4, 2, 2))])
case("packed shards", L, "uint16", chunks=(4, 4, 8), zarr_format=3, codecs=[*sharded(), GzipCodec()])
case("sharded plane", (9, 13), "uint16", chunks=(4, 8), zarr_format=3, codecs=sharded(chunk=(2, 4)))

T = (2, 3, 4, 5, 6)
case("time and channels", T, "uint16", chunks=(1, 2, 2, 3, 4), zarr_format=3, dimension_names=list("tczyx"),
     codecs=[BytesCodec(endian="little")], pick={"time": 1, "channel": 2}, selection=np.s_[1, 2])
case("v2 time and channels", T, "<i2", chunks=(2, 1, 2, 3, 4), zarr_format=2, compressor=numcodecs.Zlib(),
     pick={"time": 1, "channel": 2}, selection=np.s_[1, 2])
case("unnamed axes", T[1:], "uint16", chunks=(3, 2, 3, 4), zarr_format=3,
     codecs=[BytesCodec(endian="little")], pick={"channel": 1}, selection=np.s_[1])
case("channel last, sharded", (5, 6, 3), "uint8", chunks=(4, 4, 4), zarr_format=3, dimension_names=["y", "x", "c"],
     codecs=sharded(chunk=(2, 2, 2)), pick={"channel": 2}, selection=np.s_[..., 2])

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "arrays,", out.stat().st_size, "bytes")
