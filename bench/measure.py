"""Runs a program and tells what it took: wall clock, CPU, memory, bytes left behind. For Linux.

It imports nothing large and neither should its caller: the kernel counts the memory of whoever starts a program as that
of the program, too, until the program has taken its place.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SAMPLED_EVERY_S = 0.02


@dataclass
class Taken:
    """What a run took."""

    wall_s: float
    cpu_s: float
    """User and system time, of all its threads and of the programs it waited for."""
    peak_mb: float
    """Resident memory at its most: of its largest process by the kernel, or of all at a time as sampled."""
    output_mb: float


class Failed(Exception):
    """A program ended badly; what it last said is in it."""


def run(command: list[str], out: Path, environment: dict[str, str] | None = None) -> Taken:
    """Runs a command that leaves its answers in the folder `out`."""
    began = time.perf_counter()
    with open(os.devnull, "rb") as nothing, open(f"{out}.log", "wb+") as said:
        program = subprocess.Popen(
            command, stdin=nothing, stdout=said, stderr=said, env={**os.environ, **(environment or {})}
        )
        sampler = Sampler(program.pid)
        sampler.start()
        _, status, used = os.wait4(program.pid, 0)
        wall = time.perf_counter() - began
        sampler.ended.set()
        sampler.join()
        program.returncode = os.waitstatus_to_exitcode(status)
        if program.returncode:
            said.seek(0)
            raise Failed(f"{' '.join(command)}: {said.read().decode(errors='replace')[-2000:]}")
    os.unlink(f"{out}.log")
    peak = max(used.ru_maxrss * 1024, sampler.most)
    return Taken(round(wall, 3), round(used.ru_utime + used.ru_stime, 3), round(peak / 1e6, 1), round(size(out) / 1e6, 2))


def at_once(commands: list[list[str]], outs: list[Path]) -> float:
    """The wall clock, in seconds, of commands that are begun together, until the last has ended."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(commands)) as threads:
        list(threads.map(run, commands, outs))
    return round(time.perf_counter() - began, 3)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


class Sampler(threading.Thread):
    """Looks again and again how much memory a process and its descendants hold."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid = pid
        self.most = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(SAMPLED_EVERY_S):
            self.most = max(self.most, resident(self.pid))


def resident(pid: int) -> int:
    """Bytes that a process and its descendants hold; of one that has just ended, none."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for of in children for child in of)
