"""What a user would pick instead, on the same work: `python peers.py PEER CASE IN.zarr OUT THREADS`.

Each is a whole program, from a Zarr array on disk to results on disk, with the same chunks and codec: OUT/result.zarr,
OUT/objects.npz where there are labels, OUT/histogram.json where only that is asked. All but tensorstore hold the whole
volume in memory. A library is imported where it is used, so that no program pays for another's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Before the libraries are there to read them.
    for _library in ("OMP", "OPENBLAS", "MKL", "BLOSC", "ITK_GLOBAL_DEFAULT"):
        os.environ[f"{_library}_NUMBER_OF_THREADS" if _library.startswith("ITK") else f"{_library}_NUM_THREADS"] = sys.argv[5]

import numpy as np

from cases import CASES, CHUNK, CODEC, CUT, Case

LEVEL = int(CODEC.removeprefix("zstd:"))


def read(path: str) -> np.ndarray:
    import zarr

    return zarr.open_array(path, mode="r")[:]


def write(voxels: np.ndarray, out: Path) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    voxels = voxels.view(np.uint8) if voxels.dtype == bool else voxels
    chunks = (CHUNK,) * 3
    codec = ZstdCodec(level=LEVEL)
    result = zarr.create_array(
        out / "result.zarr", shape=voxels.shape, chunks=chunks, dtype=voxels.dtype, compressors=codec, fill_value=0
    )
    result[:] = voxels


def write_histogram(counts: np.ndarray, out: Path) -> None:
    """The counts of all values, and their median: the mean of the two in the middle."""
    up_to = np.cumsum(counts)
    middle = [int(np.searchsorted(up_to, rank, side="right")) for rank in ((up_to[-1] - 1) // 2, up_to[-1] // 2)]
    (out / "histogram.json").write_text(json.dumps({"counts": counts.tolist(), "median": sum(middle) / 2}))


def ball(radius: int) -> np.ndarray:
    z, y, x = np.ogrid[tuple([slice(-radius, radius + 1)] * 3)]
    return z * z + y * y + x * x <= radius * radius


def inverted(voxels: np.ndarray) -> np.ndarray:
    """1 - v/255, rounded to float32 once: rounded twice, a few voxels of a large volume end on the threshold's other side."""
    return (1 - np.arange(256) / 255).astype(np.float32)[voxels]


def grey_sums(labels: np.ndarray, grey: np.ndarray, count: int) -> np.ndarray:
    """The sum of the grey values of each label, a slab at a time: the weights are copied as float64."""
    slabs = (slice(z, z + CHUNK) for z in range(0, len(labels), CHUNK))
    return sum(np.bincount(labels[s].ravel(), grey[s].ravel(), count + 1) for s in slabs)[1:]


class Scipy:
    """scipy.ndimage, which computes on one thread."""

    def copy(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        write(voxels, out)

    repack = copy

    def hist(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        write_histogram(np.bincount(voxels.ravel(), minlength=256), out)

    def gauss(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        from scipy import ndimage

        smooth = ndimage.gaussian_filter(voxels, case.gaussian, output=np.float32)
        write(np.clip(np.rint(smooth, out=smooth), 0, 255).astype(np.uint8), out)

    def median(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        from scipy import ndimage

        write(ndimage.median_filter(voxels, case.window), out)

    def erode(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        from scipy import ndimage

        write(ndimage.binary_erosion(voxels < CUT, ball(case.radius), border_value=1), out)

    def label(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        from scipy import ndimage

        structure = ndimage.generate_binary_structure(3, 1 if case.connectivity == 6 else 3)
        labels, count = ndimage.label(voxels < CUT, structure)
        write(labels.astype(np.uint32, copy=False), out)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        positions = [np.broadcast_to(axis, labels.shape) for axis in np.ogrid[tuple(map(slice, labels.shape))]]
        centroid = np.stack([grey_sums(labels, axis, count) / sizes for axis in positions], 1)
        boxes = np.array([[(axis.start, axis.stop) for axis in box] for box in ndimage.find_objects(labels)])
        mean = grey_sums(labels, voxels, count) / sizes
        np.savez(out / "objects.npz", voxels=sizes, centroid=centroid, box=boxes, mean=mean)

    def pipe(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        from scipy import ndimage

        mask = ndimage.gaussian_filter(inverted(voxels), case.gaussian) > 0.5
        labels, count = ndimage.label(ndimage.binary_erosion(mask, ball(case.radius), border_value=1))
        write(labels.astype(np.uint32, copy=False), out)
        np.savez(out / "objects.npz", voxels=np.bincount(labels.ravel(), minlength=count + 1)[1:])


class Itk:
    """ITK, by SimpleITK. Its Gaussians and its balls are others than ours: recursive, and of half a voxel more."""

    def median(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        import SimpleITK as itk

        radius = case.window // 2
        # ITK repeats the voxels of the faces, which mirrors them for a radius of 1 only.
        around = np.pad(voxels, radius, mode="symmetric") if radius > 1 else voxels
        filtered = itk.Median(itk.GetImageFromArray(around), [radius] * 3)
        edge = (around.shape[0] - voxels.shape[0]) // 2
        inside = tuple(slice(edge, edge + n) for n in voxels.shape)
        write(np.ascontiguousarray(itk.GetArrayViewFromImage(filtered)[inside]), out)

    def label(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        import SimpleITK as itk

        grey = itk.GetImageFromArray(voxels)
        labels = itk.ConnectedComponent(itk.BinaryThreshold(grey, 0, CUT - 1, 1, 0), case.connectivity == 26)
        write(itk.GetArrayViewFromImage(labels).astype(np.uint32, copy=False), out)
        table = itk.LabelIntensityStatisticsImageFilter()
        table.Execute(labels, grey)
        ids = table.GetLabels()
        columns = {
            "voxels": [table.GetNumberOfPixels(i) for i in ids],
            "centroid": [table.GetCentroid(i)[::-1] for i in ids],
            "mean": [table.GetMean(i) for i in ids],
            "box": [[(at, at + width) for at, width in zip(b[2::-1], b[:2:-1])] for b in map(table.GetBoundingBox, ids)],
        }
        np.savez(out / "objects.npz", **{name: np.array(values) for name, values in columns.items()})


class Cc3d:
    """connected-components-3d."""

    def label(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        import cc3d

        connectivity = case.connectivity
        labels, count = cc3d.connected_components(
            voxels < CUT, connectivity=connectivity, return_N=True, out_dtype=np.uint32, binary_image=True
        )
        write(labels, out)
        found = cc3d.statistics(labels, no_slice_conversion=True)
        sizes = found["voxel_counts"][1:]
        boxes = found["bounding_boxes"][1:].reshape(-1, 3, 2).astype(int) + [0, 1]
        mean = grey_sums(labels, voxels, count) / sizes
        np.savez(out / "objects.npz", voxels=sizes, centroid=found["centroids"][1:], box=boxes, mean=mean)


class Edt:
    """edt: what an erosion by a ball keeps is farther than its radius from all background."""

    def erode(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        import edt

        write(edt.edtsq(voxels < CUT, parallel=int(sys.argv[5])) > case.radius**2, out)


class Mixed:
    """The quickest for each step: scipy's Gaussian, the erosion of edt, the labels of cc3d."""

    def pipe(self, voxels: np.ndarray, case: Case, out: Path) -> None:
        import cc3d
        import edt
        from scipy import ndimage

        mask = ndimage.gaussian_filter(inverted(voxels), case.gaussian) > 0.5
        mask = edt.edtsq(mask, parallel=int(sys.argv[5])) > case.radius**2
        labels = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32, binary_image=True)
        write(labels, out)
        np.savez(out / "objects.npz", voxels=cc3d.statistics(labels)["voxel_counts"][1:])


class Tensorstore:
    """tensorstore, which has no filters: a slab of chunks at a time."""

    def open(self, path: str | Path, **more):
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}, **more}
        limits = {"data_copy_concurrency": {"limit": int(sys.argv[5])}, "cache_pool": {"total_bytes_limit": 0}}
        return tensorstore.open(spec, context=tensorstore.Context(limits)).result()

    def slabs(self, volume):
        return (slice(z, min(z + CHUNK, volume.shape[0])) for z in range(0, volume.shape[0], CHUNK))

    def copy(self, path: str, case: Case, out: Path) -> None:
        source = self.open(path)
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        codecs.append({"name": "zstd", "configuration": {"level": LEVEL}})
        chunks = {"name": "regular", "configuration": {"chunk_shape": [CHUNK] * 3}}
        like = {"shape": source.shape, "data_type": "uint8", "chunk_grid": chunks, "codecs": codecs}
        target = self.open(out / "result.zarr", metadata=like, create=True)
        for slab in self.slabs(source):
            target[slab].write(source[slab].read().result()).result()

    repack = copy

    def hist(self, path: str, case: Case, out: Path) -> None:
        source = self.open(path)
        slabs = (source[slab].read().result() for slab in self.slabs(source))
        write_histogram(sum(np.bincount(slab.ravel(), minlength=256) for slab in slabs), out)


PEERS = {"scipy": Scipy, "itk": Itk, "cc3d": Cc3d, "edt": Edt, "mixed": Mixed, "tensorstore": Tensorstore}


def main(peer: str, name: str, path: str, out: str) -> None:
    work = getattr(PEERS[peer](), name.rstrip("0123456789"))
    os.makedirs(out)
    work(path if peer == "tensorstore" else read(path), CASES[name], Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:5])
