"""The example volume and its jobs, run from the files a user runs."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from images import EXAMPLES
from program import Outputs, Voxmill

JOBS = ("demo.toml", "foam.toml", "rooms.toml", "measure.toml")
SIZES = (20.0, 10.0, 5.0)
"""Of a voxel, in micrometres: no cube, so that no axis passes for another."""


def run(voxmill: Voxmill, job: str, folder: Path) -> tuple[str, Outputs]:
    """Copies a job into an empty folder, imports the volume there under the name the job gives, runs the job; returns
    its steps on one line and what it left."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / job, folder)
    written = tomllib.loads((folder / job).read_text())
    size = ",".join(map(str, SIZES)) + "um"
    voxmill.call("import", str(EXAMPLES / "bone.tif"), written["input"], "--voxel-size", size, cwd=folder)
    voxmill.call("run", job, "--quiet", cwd=folder)
    return one_line(written.get("steps", [])), Outputs(folder / written["output"])


def one_line(steps: list[dict]) -> str:
    """The steps of a job file as `--steps` takes them."""
    return " | ".join(" ".join([step["op"], *words(step)]) for step in steps)


def words(step: dict) -> list[str]:
    """The parameters of a step; a flag stands alone, a list is joined by commas."""
    found = []
    for key, value in step.items():
        if key != "op" and value is not False:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append(key if value is True else f"{key}={text}")
    return found
