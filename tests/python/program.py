"""The program under judgement: runs `voxmill`, and reads what it leaves behind with other people's libraries only."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

SECONDS_MAX = 120
"""No case is large; a run that takes longer hangs."""


class Failed(Exception):
    """The program ended with an error; carries what it said."""


@dataclass(frozen=True)
class Layout:
    """How the input lies on the disk and how a run cuts its work up. Nothing in it may change an answer."""

    name: str
    import_flags: tuple[str, ...]
    run_flags: tuple[str, ...]


@dataclass(frozen=True)
class Outputs:
    """The folder of a run."""

    folder: Path

    def image(self, name: str, axes: int) -> np.ndarray:
        """Level 0 of an image output, without the channel and time axes of length 1 that came with the input."""
        group = zarr.open_group(self.folder / f"{name}.zarr", mode="r")
        multiscales = group.attrs["ome"]["multiscales"][0]
        array = group[multiscales["datasets"][0]["path"]]
        names = [axis["name"] for axis in multiscales["axes"]]
        if list(array.metadata.dimension_names) != names or array.ndim != len(names):
            raise Failed(f"{name}.zarr: dimension names {array.metadata.dimension_names} for the axes {names}")
        voxels = array[...]
        return voxels.reshape(voxels.shape[voxels.ndim - axes :]) if voxels.ndim > axes else voxels

    def table(self) -> pd.DataFrame:
        """`objects.parquet`."""
        return self.parquet("objects")

    def parquet(self, name: str) -> pd.DataFrame:
        """A table by name."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def histogram(self) -> dict:
        """`histogram.json`."""
        return json.loads((self.folder / "histogram.json").read_text())

    def names(self) -> set[str]:
        """What a user sees in the folder."""
        return {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}


@dataclass(frozen=True)
class Voxmill:
    """One built binary."""

    binary: Path

    def call(self, *words: str, cwd: Path | None = None) -> str:
        """Standard output of `voxmill WORDS`."""
        command = [str(self.binary), *words]
        try:
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`voxmill {' '.join(words)}` took more than {SECONDS_MAX} s") from error
        if done.returncode:
            said = done.stderr.strip() or "nothing on standard error"
            raise Failed(f"`voxmill {' '.join(words)}` ended with {done.returncode}: {said}")
        return done.stdout

    def run(self, image: Path, out: Path, steps: str, flags: tuple[str, ...] = ()) -> Outputs:
        """One job, written on one line."""
        self.call("run", str(image), "-o", str(out), "--steps", steps, "--quiet", *flags)
        return Outputs(out)


@dataclass(frozen=True)
class Imports:
    """Images as `voxmill import` lays them out, each made once, when the first case asks for it."""

    voxmill: Voxmill
    folder: Path
    # One at a time, over all processes: imports are short, and two cases must not make the same one.
    lock: AbstractContextManager = field(default_factory=multiprocessing.Lock)

    def of(self, name: str, voxels: np.ndarray, layout: Layout) -> Path:
        """The image of that name in that layout."""
        source, image = self.folder / f"{name}.npy", self.folder / f"{name}-{layout.name}.zarr"
        with self.lock:
            if not image.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                if voxels.dtype == bool:
                    # An import stores bool as uint8; this way the program meets the type itself.
                    zarr.create_array(image, shape=voxels.shape, dtype=bool, chunks=(16,) * voxels.ndim)[...] = voxels
                else:
                    np.save(source, voxels)
                    self.voxmill.call("import", str(source), str(image), *layout.import_flags)
        return image
