"""Jobs that are more than a chain of steps: images saved on the way, several labels, masks, contacts, intensities.

Every image a job passes through is computed whole by the twins of reference.py, and whatever the job leaves is compared
with the one it should be. Each job runs in every layout of cases.py, and all layouts must leave the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import compare
import histogram
import images
import numpy as np
import pandas as pd
import reference
from cases import LAYOUTS
from program import Imports, Outputs

MEASURES = ("label", "objects")


@dataclass(frozen=True)
class Job:
    """One line of the report. Masks and intensities are images by name; an intensity may be what a step saves."""

    image: str
    steps: str
    mask: str | None = None
    intensity: str | None = None
    histogram: str | None = None
    exact: bool = False
    region: str | None = None
    sizes: tuple[float, ...] | None = None
    """Of a voxel of the image, where it was imported with some."""

    @property
    def name(self) -> str:
        """As the report calls it."""
        keys = ("mask", "intensity", "histogram", "exact", "region")
        said = [f"{key}={getattr(self, key)}" for key in keys if getattr(self, key)]
        return " ".join([f"job {self.image}: {self.steps or 'measure only'}", *said])

    def crop(self, voxels: np.ndarray) -> np.ndarray:
        """The part of an image that the job sees."""
        if self.region is None:
            return voxels
        bounds = [[int(end) if end else None for end in part.split(":")] for part in self.region.split(",")]
        return voxels[tuple(slice(*ends) for ends in bounds)]


def jobs() -> list[Job]:
    """All of them."""
    cut = "threshold below=75"
    cells = f"{cut} | label connectivity=26 save=cells"
    return [
        # Images saved anywhere, also where nothing else ends.
        Job("cement", "median size=3 save=calm | maximum size=3 save=bright | threshold method=otsu save=mask | label"),
        Job("cement", "median size=3 save=only"),
        Job("nuclei", "rescale divide=2 save=half | gaussian sigma=2 save=smooth"),
        Job("nuclei", "minimum size=3 save=dark | median size=3 | threshold percentile=80 save=in | erode ball=1"),
        Job("slice", f"{cut} save=dark | close ball=2 save=closed | label connectivity=8 save=grains"),
        # Holes.
        *[
            Job(image, f"{pre}fill_holes connectivity={connectivity} save=filled | label")
            for image, pre in (("cement", "threshold above=70 | "), ("speckle", ""), ("snake", ""), ("atlas", ""))
            for connectivity in (6, 18, 26)
        ],
        *[Job(image, "fill_holes") for image in ("zeros", "ones", "plane", "row", "voxel", "atlas_slice", "bool")],
        Job("slice", "threshold above=70 | fill_holes connectivity=8"),
        # What label drops; and jobs that go on after it.
        Job("speckle", "label max_voxels=4 save=small"),
        Job("speckle", "label connectivity=18 min_voxels=2 max_voxels=30 clear_border"),
        Job("cement", f"{cells} | threshold above=3 | erode cross=1 | label save=again"),
        Job("cement", f"{cells} | cast dtype=float32 | gaussian sigma=1 save=blurred"),
        Job("cement", f"{cells} | median size=3 | objects save=measured"),
        Job("cement", f"{cut} | label | fill_holes | label connectivity=26 | maximum size=3 | objects"),
        Job("bone", "threshold method=otsu | label min_voxels=5 | threshold method=otsu | label connectivity=26"),
        Job("zeros", "label save=none | fill_holes | label | objects"),
        # Contacts.
        *[Job(image, f"objects contacts={c}") for image in ("atlas", "signed_atlas", "nuclei_labels") for c in (6, 18, 26)],
        *[Job("speckle", f"label connectivity=6 contacts={c} save=parts") for c in (6, 18, 26)],
        Job("atlas_slice", "objects contacts=8"),
        Job("atlas_slice", "objects contacts=4 save=kept"),
        Job("corners", "label contacts=26 save=a | objects contacts=18 save=b"),
        # Masks.
        Job("cement", "", mask="cement_roi"),
        Job("cement", "threshold method=otsu", mask="cement_roi"),
        Job("cement", "median size=3 save=calm | threshold percentile=60 | dilate ball=2 save=wide | label", mask="cement_roi"),
        Job("cement", f"{cut} | fill_holes save=filled | label connectivity=26 contacts=26", mask="cement_roi"),
        Job("cement", f"{cut} | open ball=1 outside=zero | label clear_border", mask="cement_roi", region="3:29,:,-40:"),
        Job("cement", "rescale divide=255 save=unit | threshold above=0.3 | label", mask="cement_roi", histogram="unit"),
        Job("cement_roi", "objects contacts=6", mask="cement_roi"),
        Job("cement", "clip low=0 | label", mask="cement_nothing"),
        # Intensities.
        Job("cement", f"{cut} | label", intensity="cement_other"),
        Job("cement", "median size=3 save=calm | threshold below=75 | label", intensity="calm"),
        Job("cement", "median size=5 save=calm | threshold method=otsu | label connectivity=26", intensity="calm"),
        Job("cement", f"{cells} | objects", intensity="cement_other", region="3:29,:,-40:"),
        Job("nuclei_labels", "objects", intensity="nuclei"),
        # Histograms of what is on the way, and percentiles to the last bit.
        Job("cement", "gaussian sigma=1 save=smooth | threshold above=90", histogram="smooth", exact=True),
        Job("diffusion", "rescale divide=3 | threshold above=1 | label", exact=True),
        Job("diffusion", "threshold percentile=70 | label", exact=True),
        Job("diffusion", "threshold method=otsu", exact=True),
        Job("broken", "median size=3 save=calm | threshold above=1", histogram="calm", exact=True),
        Job("uint64", "threshold above=9", exact=True),
        Job("nothing_finite", "rescale", exact=True),
        Job("cement", f"{cut} | label save=cells", histogram="cells"),
    ]


def names_of(steps: list[tuple[str, dict]]) -> dict[str, int]:
    """The images that are kept under a name, by number: image n is what n steps give."""
    named = {step["save"]: n for n, (_, step) in enumerate(steps, 1) if "save" in step}
    numbered = [n for n, (op, _) in enumerate(steps, 1) if op == "label"]
    if numbered:
        named["labels"] = numbered[-1]
    if steps and steps[-1][0] not in MEASURES:
        named["result"] = len(steps)
    return named


def tables_of(steps: list[tuple[str, dict]]) -> tuple[dict[str, int], dict[str, int]]:
    """The object tables and the tables of contacts that are kept, by the number of the step's image."""
    measured = [n for n, (op, _) in enumerate(steps, 1) if op in MEASURES]
    touching = [n for n in measured if steps[n - 1][1].get("contacts", "none") != "none"]
    objects = {steps[n - 1][1]["save"]: n for n in measured if "save" in steps[n - 1][1]}
    contacts = {f"{steps[n - 1][1]['save']}-contacts": n for n in touching if "save" in steps[n - 1][1]}
    objects |= {"objects": measured[-1]} if measured else {}
    contacts |= {"contacts": touching[-1]} if touching else {}
    return objects, contacts


def judge(imports: Imports, job: Job, folder: Path) -> str | None:
    """Runs a job in every layout: the first has to leave what the twins give, the others what the first left."""
    whole = images.load(job.image)
    runs = []
    for layout in LAYOUTS[whole.ndim]:
        flags = list(layout.run_flags)
        if job.mask:
            flags += ["--mask", str(imports.of(job.mask, images.load(job.mask), layout))]
        if job.intensity:
            saved = job.intensity in names_of(reference.parse(job.steps))
            other = job.intensity if saved else str(imports.of(job.intensity, images.load(job.intensity), layout))
            flags += ["--intensity", other]
        flags += ["--histogram", job.histogram] if job.histogram else []
        flags += ["--percentiles", "exact"] if job.exact else []
        flags += [f"--region={job.region}"] if job.region else []
        image = imports.of(job.image, whole, layout)
        runs.append((layout, imports.voxmill.run(image, folder / layout.name, job.steps, tuple(flags))))
    (first, out), *others = runs
    if wrong := wrong_outputs(out, job):
        return f"{first.name}: {wrong}"
    for layout, other in others:
        if wrong := different(other, out, whole.ndim):
            return f"{layout.name}: {wrong}, other than in {first.name}"
    return None


def wrong_outputs(out: Outputs, job: Job) -> str | None:
    """All that a run left, against the twins."""
    voxels = job.crop(images.load(job.image))
    inside = None if job.mask is None else job.crop(images.load(job.mask)) != 0
    steps = reference.parse(job.steps)
    passed = reference.history(voxels, job.steps, inside)
    named, (objects, contacts) = names_of(steps), tables_of(steps)
    wanted = {f"{name}.zarr" for name in named} | {f"{name}.parquet" for name in (*objects, *contacts)}
    if out.names() != wanted | {"histogram.json", "run.json"}:
        return f"left {', '.join(sorted(out.names()))}; expected {', '.join(sorted(wanted))} and the reports"
    for name, n in named.items():
        if wrong := compare.wrong_image(out.image(name, voxels.ndim), passed[n]):
            return f"{name}.zarr: {wrong}"
    for name, n in objects.items():
        intensity = intensity_of(job, passed, named, n, out)
        if wrong := compare.wrong_table(out.parquet(name), passed[n].voxels, intensity, job.sizes):
            return f"{name}.parquet: {wrong}"
    for name, n in contacts.items():
        connectivity = steps[n - 1][1]["contacts"]
        if wrong := wrong_contacts(out.parquet(name), passed[n].voxels, connectivity):
            return f"{name}.parquet: {wrong}"
    found = out.histogram()
    measured = out.image(job.histogram, voxels.ndim) if job.histogram else voxels
    if found["of"] != (job.histogram or "input") or (job.exact and not found["exact"]):
        return f"histogram.json is of {found['of']}, exact: {found['exact']}"
    return histogram.difference(found, measured if inside is None else measured[inside])


def intensity_of(job: Job, passed: list, named: dict[str, int], n: int, out: Outputs) -> np.ndarray | None:
    """What the object statistics of the step that gives image `n` read. Of images that differ from the twin's by a
    rounding it is the one that was left, which has been compared by now."""
    if job.intensity in named:
        return out.image(job.intensity, passed[0].voxels.ndim)
    if job.intensity:
        return job.crop(images.load(job.intensity))
    makes_objects = any(op in reference.GIVES_FOREGROUND for op, _ in reference.parse(job.steps)[:n])
    return passed[0].voxels if makes_objects else None


def wrong_contacts(found: pd.DataFrame, labels: np.ndarray, connectivity: int) -> str | None:
    """The table of contacts against numpy, pair of offsets after pair."""
    wanted = contacts_of(labels, connectivity)
    if list(found.columns) != ["label_a", "label_b", "faces", "pairs"]:
        return f"its columns are {', '.join(found.columns)}"
    rows = list(map(tuple, found.astype(object).to_numpy().tolist()))
    if rows != wanted:
        at = next((i for i, (a, b) in enumerate(zip(rows, wanted)) if a != b), min(len(rows), len(wanted)))
        return f"{len(rows)} contacts, expected {len(wanted)}; the first that differs is number {at}: {rows[at:at + 1]}"
    return None


def contacts_of(labels: np.ndarray, connectivity: int) -> list[tuple[int, int, int, int]]:
    """(smaller label, larger label, shared faces, neighbouring pairs), sorted."""
    near = reference.structure(connectivity, labels.ndim)
    found: dict[tuple[int, int], list[int]] = {}
    for offset in product((-1, 0, 1), repeat=labels.ndim):
        if offset <= (0,) * labels.ndim or not near[tuple(d + 1 for d in offset)]:
            continue
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, labels.shape))
        there = tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(offset, labels.shape))
        a, b = labels[here].ravel(), labels[there].ravel()
        touch = (a != b) & (a != 0) & (b != 0)
        pairs = np.stack([np.minimum(a[touch], b[touch]), np.maximum(a[touch], b[touch])])
        for (low, high), count in zip(*np.unique(pairs.T, axis=0, return_counts=True)):
            sums = found.setdefault((int(low), int(high)), [0, 0])
            sums[0] += int(count) if sum(map(abs, offset)) == 1 else 0
            sums[1] += int(count)
    return [(a, b, faces, pairs) for (a, b), (faces, pairs) in sorted(found.items())]


def different(out: Outputs, other: Outputs, axes: int) -> str | None:
    """What two runs of one job don't have in common."""
    if out.names() != other.names():
        return f"left {', '.join(sorted(out.names()))}"
    for name in sorted(out.names()):
        stem, _, kind = name.rpartition(".")
        if kind == "zarr":
            here, there = out.image(stem, axes), other.image(stem, axes)
            if here.dtype != there.dtype or here.tobytes() != there.tobytes():
                return f"{name} has {int((here != there).sum())} voxels"
        elif kind == "parquet" and not out.parquet(stem).equals(other.parquet(stem)):
            return f"{name} has rows"
    return None if out.histogram() == other.histogram() else "histogram.json has values"
