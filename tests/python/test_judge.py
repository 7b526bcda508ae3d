"""Judges the judge: the reference against the libraries' own answers where it composes them, and the judge's eye for
faults, each put into an otherwise right answer. Run with `python -m unittest` in this folder."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import images
import matrix
import ngff
import numpy as np
import objects
import reference
import zarr
from cases import Case, cases
from judge import judge_case
from program import Imports
from skimage import morphology
from standin import StandIn

LABEL = Case("nuclei", "threshold above=230 | label connectivity=26")
SMOOTH = Case("cement", "gaussian sigma=1")
COLUMNS = objects.columns(axes=3, with_intensity=True)


def verdict(case: Case, fault=lambda parts: None, only_in: str = "whole even odd") -> str | None:
    """What the judge says of a stand-in with that fault."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        return judge_case(Imports(StandIn(fault, only_in), work / "imports"), case, work)


class JudgesHonestly(unittest.TestCase):
    """Right answers pass."""

    def test_right_answers_pass(self) -> None:
        jobs = ("median size=3", "threshold method=otsu", "threshold below=95 | open ball=2", "", "label min_voxels=5")
        for case in (LABEL, SMOOTH, Case("nuclei_labels", "objects"), *(Case("slice", steps) for steps in jobs)):
            with self.subTest(case.name):
                self.assertIsNone(verdict(case))


class SeesFaults(unittest.TestCase):
    """Each fault is one that a chunked program may well have."""

    def caught(self, case: Case, fault, word: str, only_in: str = "whole even odd") -> None:
        self.assertIn(word, verdict(case, fault, only_in) or "passed")

    def test_one_voxel(self) -> None:
        def flip(parts: dict) -> None:
            parts["result"][15, 16, 3] ^= 1

        self.caught(Case("cement", "median size=3"), flip, "1 of 107520 voxels differ")
        self.caught(Case("cement", "median size=3"), flip, "odd: result.zarr has 1 voxels", only_in="odd")

    def test_a_filter_just_out_of_its_tolerance(self) -> None:
        def shift(parts: dict) -> None:
            parts["result"] += np.float32(6e-5)

        self.caught(SMOOTH, shift, "voxels differ")

    def test_layouts_that_agree_within_the_tolerance_only(self) -> None:
        def nudge(parts: dict) -> None:
            parts["result"][0, 0, 0] = np.nextafter(parts["result"][0, 0, 0], np.float32(0))

        self.caught(SMOOTH, nudge, "even: result.zarr has 1 voxels", only_in="even")

    def test_two_objects_left_apart(self) -> None:
        def split(parts: dict) -> None:
            parts["labels"][20:][parts["labels"][20:] == 1] = parts["labels"].max() + 1

        self.caught(LABEL, split, "voxels differ")

    def test_numbers_in_another_order(self) -> None:
        def swap(parts: dict) -> None:
            one, two = parts["labels"] == 1, parts["labels"] == 2
            parts["labels"][one], parts["labels"][two] = 2, 1

        self.caught(LABEL, swap, "voxels differ")

    def test_labels_of_another_type(self) -> None:
        self.caught(LABEL, lambda parts: parts.update(labels=parts["labels"].astype(np.uint64)), "expected uint32")

    def test_every_column_of_the_table(self) -> None:
        for name in COLUMNS:
            with self.subTest(name):

                def spoil(parts: dict) -> None:
                    column = parts["table"][name]
                    wrong = ~column if column.dtype == bool else column + (1 if column.dtype.kind in "iu" else 1e-7)
                    parts["table"][name] = wrong.astype(column.dtype)

                self.caught(LABEL, spoil, f"column {name} differs")

    def test_layouts_whose_tables_differ(self) -> None:
        def nudge(parts: dict) -> None:
            parts["table"].loc[3, "centroid_x"] = np.nextafter(parts["table"].loc[3, "centroid_x"], 0)

        self.caught(LABEL, nudge, "odd: objects.parquet has rows", only_in="odd")

    def test_a_missing_row_and_a_missing_column(self) -> None:
        self.caught(LABEL, lambda parts: parts.update(table=parts["table"][:-1]), "rows")
        self.caught(LABEL, lambda parts: parts.update(table=parts["table"].drop(columns="anisotropy")), "columns")

    def test_histogram(self) -> None:
        for key, wrong in {"nan": 1, "std": 1.0, "max": 0, "bin_start": 0, "otsu": 1.0, "dtype": "float32"}.items():
            with self.subTest(key):
                self.caught(Case("cement", ""), lambda parts: parts["histogram"].update({key: wrong}), key_said(key))

        def move(parts: dict) -> None:
            parts["histogram"]["counts"][5] += 1
            parts["histogram"]["counts"][6] -= 1

        self.caught(Case("cement", ""), move, "1 voxels are counted in another bin")
        self.caught(
            Case("cement", ""), lambda parts: parts["histogram"]["percentiles"].update({"50": 0}), "percentile 50"
        )

    def test_an_output_too_many(self) -> None:
        self.caught(SMOOTH, lambda parts: parts.update(labels=parts["result"].astype(np.uint32)), "labels.zarr")


class JudgesTheMatrix(unittest.TestCase):
    """The same of the matrix's cells, of which the stand-in knows those of uint8."""

    @staticmethod
    def some(group: str) -> list[tuple[int, matrix.Cell]]:
        """A few cells of a line."""
        return [(n, c) for n, c in matrix.groups()[group] if c.voxels.dtype == np.uint8 and c.voxels.size > 1][:4]

    def said(self, group: str, fault=lambda parts: None, only_in: str = "whole even odd cut") -> str | None:
        with tempfile.TemporaryDirectory() as temporary:
            return matrix.judge_group(StandIn(fault, only_in), self.some(group), Path(temporary))

    def test_right_answers_pass(self) -> None:
        for group in ("values uint8", "filters mean uint8", "morphology erode zero", "labels uint8", "known tunnel"):
            with self.subTest(group):
                self.assertTrue(self.some(group))
                self.assertIsNone(self.said(group))

    def test_one_voxel(self) -> None:
        def spoil(parts: dict) -> None:
            for name in {"result", "labels"} & set(parts):
                parts[name].flat[-1] += 1

        for group in ("values uint8", "filters median uint8", "morphology close ignore", "labels uint8", "known step"):
            for only_in in ("whole", "cut"):
                with self.subTest(group, only_in=only_in):
                    self.assertIn(f", {only_in}: ", self.said(group, spoil, only_in) or "passed")

    def test_two_runs_that_agree_within_the_tolerance_only(self) -> None:
        def nudge(parts: dict) -> None:
            parts["result"].flat[0] = np.nextafter(parts["result"].flat[0], np.float32(0))

        self.assertIn("cut up, 1 voxels are other", self.said("filters gaussian uint8", nudge, "cut") or "passed")

    def test_dask_image_is_heard(self) -> None:
        cell = next(c for c in matrix.cells() if c.asks_dask and c.steps.startswith("median") and c.voxels.any())
        right = reference.answer(cell.voxels, cell.steps)
        self.assertIsNone(matrix.dask_differs(cell, right))
        self.assertIsNotNone(matrix.dask_differs(cell, reference.Answer(right.voxels + 1)))

    def test_every_step_meets_every_type_and_boundary(self) -> None:
        met = {(c.steps.split()[0], c.voxels.dtype.name, "mode=" + c.steps.partition("mode=")[2].split(" ")[0]) for c in matrix.cells()}
        for op in ("gaussian", "mean", "median", "minimum", "maximum"):
            for dtype in matrix.TYPES:
                for mode in ("reflect", "nearest", "mirror", "constant"):
                    self.assertIn((op, dtype, f"mode={mode}"), met)
        for op in ("rescale", "clip", "cast", "threshold"):
            self.assertLessEqual({(op, dtype, "mode=") for dtype in matrix.TYPES}, met)
        for op in ("erode", "dilate", "open", "close", "label"):
            self.assertLessEqual({(op, dtype, "mode=") for dtype in matrix.MASKS}, met)

    def test_every_encoding_meets_every_type(self) -> None:
        met = {
            (encoding.name, cell.voxels.dtype.name)
            for group in matrix.groups().values()
            for turn, cell in group
            for encoding in matrix.encodings_of(cell.voxels.dtype, turn)
        }
        for encoding in matrix.ENCODINGS:
            for dtype in matrix.TYPES:
                if np.dtype(dtype).itemsize > 1 or not encoding.swapped:
                    self.assertIn((encoding.name, dtype), met)

    def test_cells_are_the_same_every_time(self) -> None:
        again = [*matrix.values(), *matrix.filters()]
        for cell, other in zip(matrix.cells(), again):
            self.assertEqual(cell.name, other.name)
            self.assertEqual(cell.voxels.tobytes(), other.voxels.tobytes())


def key_said(key: str) -> str:
    """How the judge names a key of histogram.json."""
    return "bins start at 0" if key == "bin_start" else f"{key} is"


class ReferenceAgrees(unittest.TestCase):
    """Where the reference puts a step together itself, a library that has the whole step must agree."""

    def test_ignore_is_scikit_images_outside(self) -> None:
        mask = images.load("cement") > 95
        twins = {"erode": "erosion", "dilate": "dilation", "open": "opening", "close": "closing"}
        for op, name in twins.items():
            twin = getattr(morphology, name)(mask, morphology.ball(3), mode="ignore")
            ours = reference.answer(mask, f"{op} ball=3").voxels
            np.testing.assert_array_equal(ours, twin, err_msg=op)

    def test_footprints_are_scikit_images(self) -> None:
        for radius in (1, 2, 3):
            ours = reference.footprint(3, cross=radius)
            np.testing.assert_array_equal(ours, morphology.octahedron(radius))
            np.testing.assert_array_equal(reference.footprint(2, cross=radius), morphology.diamond(radius))
            cube = morphology.footprint_rectangle((2 * radius + 1,) * 3)
            np.testing.assert_array_equal(reference.footprint(3, box=radius), cube)
            np.testing.assert_array_equal(reference.footprint(3, ball=radius), morphology.ball(radius))
            np.testing.assert_array_equal(reference.footprint(3, ball=[radius] * 3), morphology.ball(radius))
        # 3² + 4² is 5², in fifths as well.
        self.assertTrue(reference.footprint(2, ball=[5, 10])[5 + 3, 10 + 8])

    def test_minimum_and_maximum_by_sorting_are_scipys(self) -> None:
        whole = images.load("diffusion")[:5, :6, :7]
        for mode in ("reflect", "mirror", "nearest", "constant"):
            for name, rank in (("minimum", 0), ("maximum", -1)):
                theirs = reference.answer(whole, f"{name} size=9 mode={mode}").voxels
                sorted_ = np.sort(reference.windows(whole, 9, mode, 0), axis=-1)[..., rank]
                np.testing.assert_array_equal(theirs, sorted_, err_msg=mode)

    def test_means_by_windows_are_scipys(self) -> None:
        whole = images.load("diffusion")[:5, :6, :7]
        for mode in ("reflect", "mirror", "nearest", "constant"):
            theirs = reference.answer(whole.astype(np.float64), f"mean size=3 mode={mode}").voxels
            ours = reference.windows(whole.astype(np.float64), 3, mode, 0).mean(axis=-1)
            np.testing.assert_allclose(theirs, ours, atol=1e-12, err_msg=mode)

    def test_median_by_sorting_is_scipys(self) -> None:
        whole = images.load("diffusion")
        for mode in ("reflect", "mirror", "nearest", "constant"):
            for voxels in (whole[:9, :10, :11], whole[:1, :2, :7]):
                spoiled = voxels.copy()
                spoiled[0, 0, -1] = np.nan
                # A NaN that sorts last is a number larger than all others.
                large = np.where(np.isnan(spoiled), np.float32(1e30), spoiled)
                for size in ("3", "1,5,3"):
                    steps = f"median size={size} mode={mode}"
                    by_sorting = np.nan_to_num(reference.answer(spoiled, steps).voxels, nan=1e30)
                    np.testing.assert_array_equal(by_sorting, reference.answer(large, steps).voxels, err_msg=steps)

    def test_cast_saturates(self) -> None:
        values = np.array([np.nan, np.inf, -np.inf, 0.5, 1.5, 2.5, -0.5, 254.5, 255.5, 1e300])
        bytes_ = reference.answer(values, "cast dtype=uint8").voxels
        np.testing.assert_array_equal(bytes_, [0, 255, 0, 0, 2, 2, 0, 254, 255, 255])
        high = np.array([2**64 - 1, 2**63], np.uint64)
        np.testing.assert_array_equal(reference.answer(high, "cast dtype=int64").voxels, [2**63 - 1, 2**63 - 1])

    def test_partitions_are_told_apart(self) -> None:
        a = np.array([0, 1, 1, 2, 3])
        self.assertTrue(reference.same_partition(a, np.array([0, 7, 7, 1, 2])))
        for other in ([0, 7, 7, 7, 2], [0, 7, 8, 1, 2], [5, 7, 7, 1, 2], [0, 7, 7, 1, 0]):
            self.assertFalse(reference.same_partition(a, np.array(other)), other)

    def test_no_case_stands_twice(self) -> None:
        names = [case.name for case in cases()]
        self.assertEqual(len(names), len(set(names)))


class SeesBadGroups(unittest.TestCase):
    """A group with levels, right but for one thing."""

    SIZES = [2.0, 1.0, 1.0]

    def verdict(self, fault=lambda group: None, version: str = "0.5") -> str:
        """What the judge says of the nuclei with one level made by numpy, after a fault was put in."""
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "group.zarr"
            finest = images.load("nuclei")
            group = zarr.open_group(path, mode="w")
            datasets = []
            for number, voxels in enumerate((finest, ngff.halved(finest, [0, 1, 2], mean=True))):
                names = ["z", "y", "x"]
                array = group.create_array(str(number), shape=voxels.shape, dtype=voxels.dtype, dimension_names=names)
                array[...] = voxels
                scale = [size * 2**number for size in self.SIZES]
                middle = [size / 2 * number for size in self.SIZES]
                placed = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": middle}]
                datasets.append({"path": str(number), "coordinateTransformations": placed})
            axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
            image = {"name": "nuclei", "axes": axes, "datasets": datasets}
            ome = {"version": "0.5", "multiscales": [image]}
            fault((group, image))
            group.attrs.update({"ome": ome})
            judged = ngff.Group(path)
            steps = [[0, 1, 2]]
            return (
                judged.invalid(version) or ngff.wrong_levels(judged, finest, self.SIZES, steps, mean=True) or "passed"
            )

    def test_each_fault(self) -> None:
        def voxel(parts: tuple) -> None:
            parts[0]["1"][3, 4, 5] += 1

        def place(parts: tuple) -> None:
            parts[1]["datasets"][1]["coordinateTransformations"][1]["translation"][0] = 0.0

        def axes(parts: tuple) -> None:
            parts[1]["axes"][2]["type"] = "channel"

        def order(parts: tuple) -> None:
            parts[1]["datasets"][1]["coordinateTransformations"].reverse()

        def level(parts: tuple) -> None:
            del parts[1]["datasets"][1]

        faults = {voxel: "1 other voxels", place: "lies at", axes: "specification", order: "specification", level: "levels"}
        self.assertEqual(self.verdict(), "passed")
        for fault, word in faults.items():
            with self.subTest(fault.__name__):
                self.assertIn(word, self.verdict(fault))
        self.assertIn("expected 0.4", self.verdict(version="0.4"))

    def test_means_round_half_to_even(self) -> None:
        odd = np.array([[[0, 1, 1, 2, 9]]], np.uint8)
        np.testing.assert_array_equal(ngff.halved(odd, [2], mean=True), [[[0, 2, 9]]])
        np.testing.assert_array_equal(ngff.halved(odd, [2], mean=False), [[[0, 1, 9]]])
        wide = np.array([[[2**64 - 1, 2**64 - 3]]], np.uint64)
        np.testing.assert_array_equal(ngff.halved(wide, [2], mean=True), np.array([[[2**64 - 2]]], np.uint64))


if __name__ == "__main__":
    unittest.main()
