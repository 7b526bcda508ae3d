"""Files as other programs write them, imported: TIFF by tifffile, NIfTI by nibabel, NRRD by pynrrd, arrays by numpy.

Each is imported twice, with memory to spare and with so little that slabs go through the disk, into the same bytes. What
came in is read with zarr-python and compared with what the reference reader of the format gives.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import tifffile
import zarr
from program import Voxmill

SHAPE = (19, 37, 46)
LITTLE = "560KiB"
"""Enough for a few objects of 16 voxels a side, not for a slab of them."""

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


@dataclass(frozen=True)
class Imported:
    """One line of the report: how a file is written, and what should come of it."""

    name: str
    file: str
    write: Callable[[Path], np.ndarray]
    """Writes the file; returns what should be imported, z,y,x or y,x, as its own reader reads it back."""
    scale: tuple[float, ...] = ()
    """None is 1 along each axis."""
    unit: str | None = None
    flags: tuple[str, ...] = ()
    translation: tuple[float, ...] = ()
    affine: np.ndarray | None = field(default=None, compare=False)
    little: str = LITTLE

    def judge(self, voxmill: Voxmill, folder: Path) -> str | None:
        """What is wrong with the import, in a sentence."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file
        expected = self.write(path)
        # Bool is stored as uint8, and all in the order of bytes that the machine has.
        expected = expected.astype(np.uint8 if expected.dtype == bool else expected.dtype.newbyteorder("="))
        # Levels would need more than the little memory, and ngff.py judges them.
        cut = ("--chunks", "8", "--shards", "2", "--levels", "none", *self.flags)
        voxmill.call("import", str(path), str(folder / "large.zarr"), *cut)
        voxmill.call("import", str(path), str(folder / "little.zarr"), *cut, "--memory", self.little)
        if files(folder / "large.zarr") != files(folder / "little.zarr"):
            return "with little memory the files are others"
        group = zarr.open_group(folder / "large.zarr", mode="r")
        return self.wrong_voxels(group["0"], expected) or self.wrong_place(dict(group.attrs), expected.ndim)

    def wrong_voxels(self, array: zarr.Array, expected: np.ndarray) -> str | None:
        """Against the whole array, bit for bit."""
        if array.shape != expected.shape or array.dtype != expected.dtype:
            return f"is {array.shape} {array.dtype}, expected {expected.shape} {expected.dtype}"
        voxels = array[...]
        if not np.array_equal(voxels, expected, equal_nan=expected.dtype.kind == "f"):
            at = tuple(int(i) for i in np.argwhere(voxels != expected)[0])
            return f"has {voxels[at]} at {at}, expected {expected[at]}"
        return None

    def wrong_place(self, attributes: dict, axes: int) -> str | None:
        """Sizes, units and the affine."""
        multiscales = attributes["ome"]["multiscales"][0]
        scale, translation = multiscales["datasets"][0]["coordinateTransformations"]
        expected = self.scale or (1.0,) * axes
        if not np.allclose(scale["scale"], expected, rtol=1e-6):
            return f"has scale {scale['scale']}, expected {expected}"
        expected = self.translation or (0.0,) * axes
        if not np.allclose(translation["translation"], expected, rtol=1e-6):
            return f"has translation {translation['translation']}, expected {expected}"
        units = [axis.get("unit") for axis in multiscales["axes"]]
        if units != [self.unit] * axes:
            return f"has units {units}, expected {self.unit}"
        affine = attributes.get("voxmill", {}).get("affine")
        if self.affine is not None and (affine is None or not np.allclose(affine, self.affine, atol=1e-5)):
            return f"has affine {affine}, expected {self.affine.tolist()}"
        return None


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder; but for its own name, which is in the metadata."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found["zarr.json"] = found["zarr.json"].replace(folder.stem.encode(), b"NAME")
    return found


def volume(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Values over much of the type's range, smooth enough to be worth packing."""
    count = math.prod(shape)
    ramp = np.arange(count, dtype=np.float64).reshape(shape)
    if np.dtype(dtype).kind == "f":
        return (np.sin(ramp / 97) * 1e3).astype(dtype)
    if dtype == "bool":
        return (ramp % 7) < 3
    limits = np.iinfo(dtype)
    wrapped = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)).reshape(shape) >> np.uint64(7)
    return wrapped.astype(dtype) if limits.bits < 64 else wrapped.view(np.int64).astype(dtype) - (limits.min != 0) * 5


def imports() -> list[Imported]:
    """All of them."""
    return [*tiff(), *imagej(), *ome(), *folders(), *nifti(), *nrrds(), *arrays(), *raw()]


def tiff() -> list[Imported]:
    """Every type, compression and predictor, strips and tiles, both byte orders, both sizes of offsets."""

    def case(name: str, dtype: str, voxels: np.ndarray | None = None, **how) -> Imported:
        def write(path: Path) -> np.ndarray:
            values = volume(dtype) if voxels is None else voxels
            tifffile.imwrite(path, values, **({"metadata": None} | how))
            read = tifffile.imread(path)
            return read

        return Imported(f"import tiff, {dtype}, {name}", "a.tif", write)

    grey = {"photometric": "minisblack"}
    cases = [case("plain", dtype, **grey) for dtype in (*TYPES, "bool")]
    cases += [case("big-endian", dtype, byteorder=">", **grey) for dtype in ("uint16", "int32", "float64")]
    cases += [case("BigTIFF", "uint16", bigtiff=True, **grey), case("white is zero", "uint8", photometric="miniswhite")]
    for compression in ("zlib", "lzw", "packbits", "zstd"):
        for dtype in ("uint8", "uint16", "float32", "int64"):
            if compression == "packbits" and dtype != "uint8":
                continue
            cases.append(case(compression, dtype, compression=compression, rowsperstrip=5, **grey))
            cases.append(case(f"{compression}, one strip", dtype, compression=compression, rowsperstrip=37, **grey))
            cases.append(case(f"{compression}, tiles", dtype, compression=compression, tile=(16, 32), **grey))
    for dtype in ("uint8", "int16", "uint32", "uint64"):
        cases.append(case("predictor 2", dtype, compression="zlib", predictor=2, **grey))
        cases.append(case("predictor 2, big-endian tiles", dtype, compression="lzw", predictor=2, tile=(16, 16), byteorder=">", **grey))
    for dtype in ("float32", "float64"):
        cases.append(case("predictor 3", dtype, compression="zstd", predictor=3, **grey))
        cases.append(case("predictor 3, big-endian tiles", dtype, compression="zlib", predictor=3, tile=(32, 16), byteorder=">", **grey))
    cases += [case("plain tiles", "uint16", tile=(16, 16), **grey), case("plain strips", "uint16", rowsperstrip=7, **grey)]
    cases.append(case("packed bits", "bool", compression="zlib", **grey))
    cases.append(case("packbits bits", "bool", compression="packbits", **grey))
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
    for packed in ({}, {"compression": "zlib"}):
        cases.append(case(f"palette {packed}", "uint8", photometric="palette", colormap=colours, **packed))
    cases.append(case("one page", "uint16", volume("uint16", (40, 50)), **grey))
    cases.append(case("one wide page", "uint16", volume("uint16", (300, 2000)), compression="zlib", rowsperstrip=300, **grey))

    def shaped(path: Path) -> np.ndarray:
        voxels = volume("uint16")
        tifffile.imwrite(path, voxels, truncate=True, metadata={"axes": "ZYX"})
        return voxels

    def channels(path: Path) -> np.ndarray:
        voxels = volume("uint16", (5, 2, 30, 40))
        tifffile.imwrite(path, voxels, metadata={"axes": "ZCYX"}, **grey)
        return voxels[:, 1]

    cases.append(Imported("import tiff, one page for all", "a.tif", shaped))
    cases.append(Imported("import tiff, tifffile's axes", "a.tif", channels, flags=("--channel", "1")))
    return cases


def imagej() -> list[Imported]:
    """Hyperstacks, as ImageJ has them: big-endian, with spacing and unit; and without pages, as beyond 4 GB."""

    def case(name: str, voxels: np.ndarray, axes: str, picked: tuple, flags: tuple[str, ...] = (), **how) -> Imported:
        def write(path: Path) -> np.ndarray:
            metadata = {"axes": axes, "spacing": 2.5, "unit": "um"}
            tifffile.imwrite(path, voxels, imagej=True, resolution=(4.0, 2.0), metadata=metadata, **how)
            return voxels[picked]

        return Imported(f"import ImageJ, {name}", "a.tif", write, (2.5, 0.5, 0.25), "micrometer", flags)

    every = slice(None)
    stack = volume("uint16")
    hyper = volume("uint8", (3, 7, 2, 30, 40))
    return [
        case("stack", stack, "ZYX", (every,)),
        case("stack of floats", volume("float32"), "ZYX", (every,)),
        case("beyond 4 GB, in small", stack, "ZYX", (every,), truncate=True),
        case("hyperstack", hyper, "TZCYX", (2, every, 1), ("--channel", "1", "--time", "2")),
        case("hyperstack, first", hyper, "TZCYX", (0, every, 0), ("--channel", "0", "--time", "0")),
        case("hyperstack beyond 4 GB, in small", hyper, "TZCYX", (1, every, 1), ("--channel", "1", "--time", "1"), truncate=True),
        case("packed", stack, "ZYX", (every,), compression="zlib"),
    ]


def ome() -> list[Imported]:
    """OME-TIFF: sizes and units, orders of dimensions."""

    def case(name: str, axes: str, picked: tuple, flags: tuple[str, ...] = (), **how) -> Imported:
        shape = tuple({"T": 3, "C": 2, "Z": 5, "Y": 33, "X": 41}[axis] for axis in axes)
        voxels = volume("uint16", shape)

        def write(path: Path) -> np.ndarray:
            metadata = {
                "axes": axes,
                "PhysicalSizeX": 0.25,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.5,
                "PhysicalSizeYUnit": "nm",
                "PhysicalSizeZ": 3.0,
                "PhysicalSizeZUnit": "nm",
            }
            tifffile.imwrite(path, voxels, ome=True, photometric="minisblack", metadata=metadata, **how)
            read = tifffile.imread(path)
            return read[picked]

        return Imported(f"import OME-TIFF, {name}", "a.ome.tif", write, (3.0, 0.5, 0.25), "nanometer", flags)

    every = slice(None)
    both = ("--channel", "1", "--time", "2")
    return [
        case("stack", "ZYX", (every,)),
        case("TCZ", "TCZYX", (2, 1), both),
        case("CTZ", "CTZYX", (1, 2), both),
        case("TZC, packed", "TZCYX", (2, every, 1), both, compression="zlib", tile=(16, 16)),
        case("BigTIFF", "CZYX", (1,), ("--channel", "1"), bigtiff=True),
    ]


def folders() -> list[Imported]:
    """Slices in natural order, and stacks that follow each other."""

    def slices(path: Path) -> np.ndarray:
        path.mkdir()
        voxels = volume("uint16")
        for z, plane in enumerate(voxels):
            tifffile.imwrite(path / f"s{z}.tif", plane)
        (path / "notes.txt").write_text("left out")
        return voxels

    def packed(path: Path) -> np.ndarray:
        path.mkdir()
        voxels = volume("float32")
        for z, plane in enumerate(voxels):
            tifffile.imwrite(path / f"s{z}.TIFF", plane, compression="zlib", predictor=3, byteorder=">" if z % 2 else "<")
        return voxels

    def mixed(path: Path) -> np.ndarray:
        path.mkdir()
        voxels = volume("int16")
        for z, plane in enumerate(voxels):
            tifffile.imwrite(path / f"s{z:02}.tif", plane, byteorder=">" if z % 3 else "<", photometric="minisblack")
        return voxels

    def stacks(path: Path) -> np.ndarray:
        path.mkdir()
        voxels = volume("uint8")
        tifffile.imwrite(path / "part 2.tif", voxels[:4], photometric="minisblack")
        tifffile.imwrite(path / "part 10.tif", voxels[4:], photometric="minisblack")
        return voxels

    return [
        Imported("import a folder of slices", "slices", slices),
        Imported("import a folder of packed slices", "slices", packed),
        Imported("import a folder of slices in both byte orders", "slices", mixed),
        Imported("import a folder of stacks", "slices", stacks),
    ]


def nifti() -> list[Imported]:
    """Both versions, single files and pairs, packed or not, scaled, turned, with a time axis."""
    straight = np.diag([0.5, 0.75, 2.0, 1.0])
    straight[:3, 3] = (-10, 20, 30)
    scale = (2.0, 0.75, 0.5)
    flipped = straight.copy()
    flipped[0, 0] = -0.5
    turned = straight.copy()
    turned[:2, :2] = [[0.4, -0.45], [0.3, 0.6]]

    def case(
        name: str,
        voxels: np.ndarray,
        file: str = "a.nii",
        kind: type = nibabel.Nifti1Image,
        affine: np.ndarray = straight,
        unit: str = "mm",
        full: str | None = "millimeter",
        slope: tuple[float, float] | None = None,
        dtype: str | None = None,
        endian: str = "<",
        flags: tuple[str, ...] = (),
        time: int | None = None,
        qform: bool = False,
    ) -> Imported:
        def write(path: Path) -> np.ndarray:
            header = kind.header_class(endianness=endian)
            header.set_data_dtype(voxels.dtype.newbyteorder(endian))
            image = kind(voxels.T, None if qform else affine, header=header)
            if qform:
                image.set_qform(affine, code="aligned")
            image.header.set_xyzt_units(unit)
            if slope:
                image.header.set_slope_inter(*slope)
            nibabel.save(image, path)
            read = np.asanyarray(nibabel.load(path).dataobj)
            read = read if time is None else read[..., time]
            read = read[..., 0] if read.ndim == 4 else read
            return np.ascontiguousarray(read.T).astype(dtype or voxels.dtype)

        moved = (30.0, 20.0, -10.0) if affine is straight else ()
        place = {"scale": scale, "translation": moved} if voxels.ndim > 2 else {"scale": scale[1:], "translation": moved[1:]}
        return Imported(f"import NIfTI, {name}", file, write, unit=full, flags=flags, affine=affine, **place)

    def raw_slope(slope: float, inter: float, dtype: str, stored: str = "int16") -> Imported:
        """The stored numbers as they are, and a slope written into the header afterwards."""

        def write(path: Path) -> np.ndarray:
            image = nibabel.Nifti1Image(volume(stored).T, straight, dtype=stored)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, path)
            content = bytearray(path.read_bytes())
            content[112:120] = np.array([slope, inter], "<f4").tobytes()
            path.write_bytes(content)
            read = np.asanyarray(nibabel.load(path).dataobj)
            return np.ascontiguousarray(read.T).astype(dtype)

        name = f"import NIfTI, {stored}, slope {slope}, intercept {inter}"
        return Imported(name, "a.nii", write, scale, "millimeter", translation=(30.0, 20.0, -10.0), affine=straight)

    two = nibabel.Nifti2Image
    cases = [case(dtype, volume(dtype)) for dtype in TYPES]
    cases += [case(f"{dtype}, big-endian", volume(dtype), endian=">") for dtype in ("uint16", "float32")]
    cases += [case("packed", volume("int16"), "a.nii.gz"), case("version 2", volume("int16"), kind=two)]
    cases += [case("version 2, packed, big-endian", volume("uint8"), "a.nii.gz", two, endian=">")]
    cases += [case("pair", volume("int16"), "a.img", nibabel.Nifti1Pair), case("pair by its header", volume("int16"), "a.hdr", nibabel.Nifti1Pair)]
    cases += [case("packed pair", volume("int16"), "a.img.gz", nibabel.Nifti1Pair)]
    cases += [case("microns", volume("uint8"), unit="micron", full="micrometer"), case("meters", volume("uint8"), unit="meter", full="meter")]
    cases += [case("no unit", volume("uint8"), unit="unknown", full=None)]
    cases += [case("2-D", volume("uint8", (30, 40)))]
    cases += [case("one time point", volume("uint8")[None], time=0)]
    for file in ("a.nii", "a.nii.gz"):
        cases.append(case(f"three time points, {file}", volume("int16", (3, *SHAPE)), file, flags=("--time", "2"), time=2))
    cases += [case("flipped", volume("uint8"), affine=flipped), case("turned", volume("uint8"), affine=turned)]
    cases += [case("qform", volume("uint8"), qform=True), case("qform, flipped", volume("uint8"), affine=flipped, qform=True)]
    cases += [raw_slope(0.25, 3.0, "float32"), raw_slope(0.0, 5.0, "int16"), raw_slope(math.nan, 0.0, "int16")]
    cases += [raw_slope(1.0, 0.0, "int16"), raw_slope(1.0, -1024.0, "float32"), raw_slope(1e-5, 1000.0, "float64")]
    cases += [raw_slope(0.1, 0.0, "float32", "uint8"), raw_slope(0.1, 0.5, "float64", "int32"), raw_slope(3.0, 1.0, "float32", "float32")]
    cases += [raw_slope(0.1, 0.5, "float64", "int64"), raw_slope(0.1, 0.5, "float64", "float64")]
    return cases


def nrrds() -> list[Imported]:
    """Attached and detached, every encoding, sizes given in both ways."""
    straight = {"space": "left-posterior-superior", "space directions": np.diag([0.5, 0.75, 2.0]), "space origin": [1.0, 2.0, 3.0]}
    place = {"scale": (2.0, 0.75, 0.5), "unit": "millimeter", "translation": (3.0, 2.0, 1.0)}

    def case(name: str, dtype: str, file: str = "a.nrrd", header: dict | None = None, shape: tuple = SHAPE, **expected) -> Imported:
        def write(path: Path) -> np.ndarray:
            nrrd.write(str(path), volume(dtype, shape).T, header={"encoding": "raw"} | (header or straight), index_order="F")
            return nrrd.read(str(path), index_order="C")[0]

        return Imported(f"import NRRD, {name}", file, write, **(expected or (place if header is None else {})))

    cases = [case(dtype, dtype) for dtype in TYPES]
    for encoding in ("gzip", "bzip2", "ascii"):
        # bzip2 itself takes 4 MiB.
        how = place | ({"little": "6022KiB"} if encoding == "bzip2" else {})
        for dtype in ("uint8", "int16", "float64"):
            header = straight | {"encoding": encoding}
            cases.append(case(f"{encoding}, {dtype}", dtype, header=header, **how))
            cases.append(case(f"{encoding}, {dtype}, detached", dtype, "a.nhdr", header, **how))
    cases += [
        case("detached", "uint16", "a.nhdr"),
        case("big-endian", "int32", header=straight | {"endian": "big"}, **place),
        case("spacings", "uint8", header={"spacings": [0.5, 0.75, 2.0]}, scale=(2.0, 0.75, 0.5)),
        case("spacings and units", "uint8", header={"spacings": [0.5, 0.75, 2.0], "units": ["um"] * 3}, scale=(2.0, 0.75, 0.5), unit="micrometer"),
        case("space units", "uint8", header=straight | {"space units": ["nm"] * 3}, **(place | {"unit": "nanometer"})),
        case("nothing said", "uint8", header={"comment": "x"}),
        case("2-D", "uint8", header={"spacings": [0.5, 0.75]}, shape=(30, 40), scale=(0.75, 0.5)),
    ]
    return cases


def arrays() -> list[Imported]:
    """numpy's files: both orders, both byte orders, in archives, packed or not."""

    def npy(name: str, voxels: np.ndarray) -> Imported:
        def write(path: Path) -> np.ndarray:
            np.save(path, voxels)
            return np.load(path)

        return Imported(f"import npy, {name}", "a.npy", write)

    def npz(name: str, save: Callable, flags: tuple[str, ...] = (), **members: np.ndarray) -> Imported:
        def write(path: Path) -> np.ndarray:
            save(path, **members)
            return np.load(path)[flags[1] if flags else next(iter(members))]

        return Imported(f"import npz, {name}", "a.npz", write, flags=flags)

    def zipped(path: Path) -> np.ndarray:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("inside/grains.npy", "w") as member:
                np.save(member, volume("uint8"))
            archive.writestr("readme.txt", "grains")
        return volume("uint8")

    def packed(path: Path) -> np.ndarray:
        with gzip.open(path, "wb") as file:
            np.save(file, volume("uint16"))
        return volume("uint16")

    voxels = volume("int16")
    fortran = np.asfortranarray(voxels)
    return [
        *[npy(dtype, volume(dtype)) for dtype in (*TYPES, "bool")],
        npy("big-endian", voxels.astype(">i2")),
        npy("Fortran order", fortran),
        npy("Fortran order, big-endian", np.asfortranarray(volume("float64").astype(">f8"))),
        npy("2-D", volume("uint8", (30, 40))),
        npz("stored", np.savez, a=voxels),
        npz("packed", np.savez_compressed, a=voxels),
        npz("packed, Fortran order", np.savez_compressed, a=fortran),
        npz("stored, Fortran order", np.savez, a=fortran),
        npz("one of two", np.savez_compressed, ("--member", "b"), a=volume("uint8"), b=voxels),
        Imported("import zip with one .npy", "a.npy.zip", zipped),
        Imported("import .npy.gz", "a.npy.gz", packed),
    ]


def raw() -> list[Imported]:
    """Voxels without a header."""

    def case(name: str, dtype: str, flags: tuple[str, ...], before: bytes = b"", shape: tuple[int, ...] = SHAPE) -> Imported:
        def write(path: Path) -> np.ndarray:
            voxels = volume(np.dtype(dtype).name, shape)
            path.write_bytes(before + voxels.astype(dtype).tobytes())
            return voxels

        text = ",".join(str(n) for n in shape)
        flags = ("--shape", text, "--dtype", np.dtype(dtype).name, *flags)
        return Imported(f"import raw, {name}", "a.raw", write, flags=flags)

    size = Imported(
        "import raw, voxel size given",
        "a.raw",
        lambda path: (path.write_bytes(volume("uint8").tobytes()), volume("uint8"))[1],
        (2.0, 0.5, 0.25),
        "micrometer",
        ("--shape", "19,37,46", "--dtype", "uint8", "--voxel-size", "2,0.5,0.25um"),
    )
    return [
        case("little-endian", "<u2", ()),
        case("big-endian, offset", ">f4", ("--order", "big", "--offset", "7"), b"header\n"),
        case("2-D", "<u2", (), shape=(30, 40)),
        size,
    ]
