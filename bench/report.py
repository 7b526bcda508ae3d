"""The report: what was measured as JSON, for programs, and as tables in Markdown, for people."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

from measure import Taken


def least(taken: list[Taken]) -> Taken:
    """Of several runs the least time: whatever else the machine does only adds to it. Of memory the most."""
    columns = {field.name: [getattr(one, field.name) for one in taken] for field in fields(Taken)}
    return Taken(**{name: max(values) if name == "peak_mb" else min(values) for name, values in columns.items()})


def write(rows: list[dict], tables: list[str], machine: dict, path: Path) -> None:
    """Writes `path`.json, from rows, and `path`.md, from the lines of tables, and prints the latter."""
    path.with_suffix(".json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    text = "\n".join([told(machine), "", *tables]) + "\n"
    path.with_suffix(".md").write_text(text)
    print(text, end="")


def told(machine: dict) -> str:
    return (
        f"{machine['voxmill']} on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}"
    )


def workers(rows: list[dict]) -> list[str]:
    """A line for each row: how many times one worker's rate several have, and as many programs of one worker each."""
    lines = [
        "| case | voxels | one worker, s | threads | s | times faster | as many programs, s | times one's rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        one, several, programs = row["one_s"], row["several_s"], row["programs_s"]
        shape = "×".join(map(str, row["shape"]))
        lines.append(
            f"| {row['case']} | {shape} | {one:.2f} | {row['workers']} | {several:.2f} | {one / several:.2f} | "
            f"{programs:.2f} | {row['workers'] * one / programs:.2f} |"
        )
    return lines


def programs(rows: list[dict]) -> list[str]:
    """What each program took, and what more threads brought it."""
    return [*table(rows), *scaling(rows)]


def table(rows: list[dict]) -> list[str]:
    """A line for each row; the ratio says how many times the CPU of voxmill with the same codec it took."""
    lines = [
        "| case | voxels | program | threads | wall s | CPU s | Mvoxel/s | peak MB | output MB | CPU, times ours |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = [
            other
            for other in rows
            if other["program"] == "voxmill" and all(other[key] == row[key] for key in ("case", "shape"))
        ]
        ratio = f"{row['cpu_s'] / ours[0]['cpu_s']:.1f}" if ours and not row["program"].startswith("voxmill") else ""
        rate = math.prod(row["shape"]) / row["wall_s"] / 1e6
        shape = "×".join(map(str, row["shape"]))
        lines.append(
            f"| {row['case']} | {shape} | {row['program']} | {row['workers']} | {row['wall_s']:.2f} | "
            f"{row['cpu_s']:.2f} | {rate:.0f} | {row['peak_mb']:.0f} | {row['output_mb']:.1f} | {ratio} |"
        )
    return lines


def scaling(rows: list[dict]) -> list[str]:
    """For each program that ran on one thread and on more: how much faster it was, and the part of the work on one
    thread that no second one takes a share of, by Amdahl's law."""
    lines = []
    for one in (row for row in rows if row["workers"] == 1):
        same = [row for row in rows if all(row[key] == one[key] for key in ("case", "shape", "program"))]
        for more in (row for row in same if row["workers"] > 1):
            share = 1 / more["workers"]
            serial = (more["wall_s"] / one["wall_s"] - share) / (1 - share)
            lines.append(
                f"| {one['case']} | {one['program']} | {more['workers']} | {one['wall_s'] / more['wall_s']:.2f} | "
                f"{100 * max(serial, 0):.1f} % |"
            )
    return ["", "| case | program | threads | times faster | serial part |", "|---|---|---|---|---|", *lines] if lines else []
