"""The judge: runs voxmill over real and made-up volumes and compares all it leaves behind with numpy, scipy,
scikit-image and connected-components-3d on the whole array, through zarr-python and pandas.

    python tests/python/judge.py --voxmill target/debug/voxmill [--work DIR] [--only TEXT]

Prints a line per case, and how many passed and failed at the end; exits 0 when none failed. `--only` takes the cases
whose name contains a text, `--work` keeps what the runs wrote.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import compare
import example
import exported
import golden
import histogram
import images
import jobs
import matrix
import ngff
import numpy as np
import reference
import tables
import viewers
from cases import LAYOUTS, Case, cases
from imports import imports as files
from inputs import Input, inputs
from program import Failed, Imports, Outputs, Voxmill

PRODUCES = {
    "image": {"result.zarr"},
    "labels": {"labels.zarr", "objects.parquet"},
    "objects": {"objects.parquet"},
    "measure": set(),
}
"""What a job of each kind leaves for its user, beside the histogram and the provenance of every job."""


def judge_case(imports: Imports, case: Case, folder: Path) -> str | None:
    """Runs a case in every layout. The first has to give the reference's answer, the others the same as the first, bit
    for bit, also where the reference allows for a rounding."""
    whole, voxels = images.load(case.image), case.voxels()
    expected = reference.answer(voxels, case.steps)
    runs = []
    for layout in LAYOUTS[whole.ndim]:
        image = imports.of(case.image, whole, layout)
        flags = (*layout.run_flags, *case.flags())
        runs.append((layout, imports.voxmill.run(image, folder / layout.name, case.steps, flags)))
    (first, out), *others = runs
    if wrong := wrong_outputs(out, voxels, case.steps, expected):
        return f"{first.name}: {wrong}"
    for layout, other in others:
        if wrong := different(other, out, voxels.ndim):
            return f"{layout.name}: {wrong}, other than in {first.name}"
    return None


def different(out: Outputs, other: Outputs, axes: int) -> str | None:
    """What two runs of one job don't have in common."""
    if out.names() != other.names():
        return f"left {', '.join(sorted(out.names()))}"
    for name in sorted({"result", "labels"} & {name.removesuffix(".zarr") for name in out.names()}):
        here, there = out.image(name, axes), other.image(name, axes)
        if here.dtype != there.dtype or here.tobytes() != there.tobytes():
            return f"{name}.zarr has {int((here != there).sum())} voxels"
    if "objects.parquet" in out.names() and not out.table().equals(other.table()):
        return "objects.parquet has rows"
    return None if out.histogram() == other.histogram() else "histogram.json has values"


def wrong_outputs(out: Outputs, voxels: np.ndarray, steps: str, expected: reference.Answer) -> str | None:
    """All that one run left behind, against the reference."""
    kind = expected.kind if steps else "measure"
    wanted = PRODUCES[kind] | {"histogram.json", "run.json"}
    if out.names() != wanted:
        return f"left {', '.join(sorted(out.names()))}; expected {', '.join(sorted(wanted))}"
    wrong = histogram.difference(out.histogram(), voxels)
    if kind == "image":
        wrong = wrong or compare.wrong_image(out.image("result", voxels.ndim), expected)
    elif kind == "labels":
        wrong = wrong or compare.wrong_image(out.image("labels", voxels.ndim), expected)
    if kind in ("labels", "objects"):
        intensity = None if steps == "objects" else voxels
        wrong = wrong or compare.wrong_table(out.table(), expected.voxels, intensity)
    return wrong


def judge_input(voxmill: Voxmill, source: Input, folder: Path) -> str | None:
    """Reads an input that another program wrote."""
    image = source.place(voxmill, folder)
    flags = ("--chunks", "8", "--shards", "none", "--block", "8", *source.flags)
    out = voxmill.run(image, folder / "out", "median size=1", flags)
    return wrong_outputs(out, source.voxels, "median size=1", reference.Answer(source.voxels))


def judge_golden(imports: Imports, crop: str, folder: Path) -> str | None:
    """Compares with the frozen answers, the judges of today first."""
    answers, table = golden.frozen(crop)
    today, table_today = golden.answers(crop)
    if answers != today:
        return "the judges installed here answer otherwise than the frozen answers"
    voxels = images.load(crop)
    layout = LAYOUTS[voxels.ndim][-1]
    voxmill, image = imports.voxmill, imports.of(crop, voxels, layout)

    measured = voxmill.run(image, folder / "measured", "", layout.run_flags).histogram()
    if measured["percentiles"] != answers["percentiles"]:
        return f"percentiles are {measured['percentiles']}, expected {answers['percentiles']}"
    if voxels.dtype.kind != "f" and measured["otsu"] != answers["otsu"]:
        return f"otsu is {measured['otsu']}, expected {answers['otsu']}"

    for number, (steps, checksum) in enumerate(answers["images"].items()):
        out = voxmill.run(image, folder / f"image-{number}", steps, layout.run_flags)
        name = "labels" if "label" in steps else "result"
        if golden.checksum(out.image(name, voxels.ndim)) != checksum:
            return f"`{steps}` gives other voxels"
    out = voxmill.run(image, folder / "table", golden.TABLE, layout.run_flags)
    if golden.checksum(out.image("labels", voxels.ndim)) != answers["labels"]:
        return f"`{golden.TABLE}` gives other labels"
    return compare.wrong_columns(table_today, table, "the frozen table") or compare.wrong_columns(
        out.table(), table, "the frozen table"
    )


def judge_example(voxmill: Voxmill, job: str, folder: Path) -> str | None:
    """Imports the example volume and runs one of the example jobs as its user would: in a folder of theirs."""
    steps, out = example.run(voxmill, job, folder)
    return jobs.wrong_outputs(out, jobs.Job("example", steps, sizes=example.SIZES))


def work_list(voxmill: Voxmill, imports: Imports) -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Every case by name, with what judges it in a folder."""
    for case in cases():
        yield case.name, lambda folder, case=case: judge_case(imports, case, folder)
    for job in jobs.jobs():
        yield job.name, lambda folder, job=job: jobs.judge(imports, job, folder)
    for name, group in matrix.groups().items():
        yield f"matrix: {name}", lambda folder, group=group: matrix.judge_group(voxmill, group, folder)
    for source in inputs():
        yield source.name, lambda folder, source=source: judge_input(voxmill, source, folder)
    for file in files():
        yield file.name, lambda folder, file=file: file.judge(voxmill, folder)
    for export in exported.exports():
        yield export.name, lambda folder, export=export: exported.wrong(voxmill, export, folder)
    for crop in images.crops():
        yield f"frozen answers: {crop}", lambda folder, crop=crop: judge_golden(imports, crop, folder)
    yield from ngff.work_list(voxmill)
    yield from tables.work_list(voxmill)
    yield from viewers.work_list(voxmill)
    for job in example.JOBS:
        yield f"examples/{job}", lambda folder, job=job: judge_example(voxmill, job, folder)


CHOSEN: list[tuple[Callable[[Path], str | None], Path]] = []
"""What is judged, and where: forked processes have it too."""


def numbered(number: int) -> str | None:
    """The verdict on one of the chosen."""
    judge, folder = CHOSEN[number]
    return verdict(judge, folder)


def verdict(judge: Callable[[Path], str | None], folder: Path) -> str | None:
    """What a case says, where a crash is a failure of that case alone."""
    try:
        return judge(folder)
    except Failed as failed:
        return str(failed)
    except Exception:
        return traceback.format_exc().strip()


def main() -> int:
    """All cases, as many at a time as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxmill", type=Path, required=True, help="the binary to judge")
    parser.add_argument("--work", type=Path, help="where to write, kept afterwards; else a temporary folder")
    parser.add_argument("--only", default="", help="the cases whose name contains this text")
    arguments = parser.parse_args()
    if arguments.work and arguments.work.exists() and any(arguments.work.iterdir()):
        # A run that finds its output finished does nothing, and an older binary's answers would be judged.
        parser.error(f"{arguments.work} is not empty")

    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="judge-") as temporary:
        work = arguments.work or Path(temporary)
        voxmill = Voxmill(arguments.voxmill.resolve())
        listed = work_list(voxmill, Imports(voxmill, work / "imports"))
        chosen = [(name, judge) for name, judge in listed if arguments.only in name]
        # Most of the time goes to the twins, which are Python; so processes, which find their cases by number.
        CHOSEN.extend((judge, work / f"{number:04}") for number, (_, judge) in enumerate(chosen))
        with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork")) as pool:
            for (name, _), wrong in zip(chosen, pool.map(numbered, range(len(chosen)))):
                passed, failed = passed + (not wrong), failed + bool(wrong)
                print(f"FAIL {name}\n     {wrong}" if wrong else f"ok   {name}", flush=True)
    print(matrix.counted())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
