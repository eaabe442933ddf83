"""The figures of a run: what ``summary.json`` holds, and the closing table.

- ``status``: ``running``, ``finished``, ``interrupted`` or ``failed`` (then ``error`` says why)
- ``title``, ``problem``, ``seed``, ``versions``: what ran; of a search also the versions of its libraries
- ``iterations``: committed steps
- ``blocks``, ``misfit_start``, ``misfit_end``: per block its name and the loss an item of its first and of
  its last batch, each before its step; null for a block that was not reached. With ``selection = "all"`` both
  are of the same items
- ``search``: of a search instead what was chosen, on what, the means of the chosen one and of the start with their
  errors, what was spent (``spent``) and how many evaluations have failed (``failed``); of one that was stopped before
  its final choice the best so far (``best``)
- ``failed_items``: how many items were left out in all iterations together, where the study allows it
- ``digest``: :func:`thalweg.runs.model_digest` of the variables, by name
- ``seconds``: from the call to here, everything included; ``seconds_by_part``: of the preparation and of the
  blocks
- ``peak_memory_bytes``: the largest resident set of the process
- ``warnings``: what went wrong besides
- and what the problem adds
"""

from __future__ import annotations

import contextlib
import json
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.runs.against import against_start
from thalweg.runs.batches import FAILED_ITEMS
from thalweg.runs.compared import ScoredOn, compared_from
from thalweg.runs.display import duration
from thalweg.runs.history import History
from thalweg.runs.machine import libraries
from thalweg.runs.study import Study
from thalweg.runs.telling import some

SHOWN_APART = frozenset(
    {
        *(
            "status",
            "title",
            "problem",
            "seed",
            "versions",
            "iterations",
            "blocks",
            "misfit_start",
            "misfit_end",
        ),
        *("digest", "seconds", "seconds_by_part", "peak_memory_bytes", "warnings", "error", "stopped"),
    }
)


def identity(study: Study) -> dict[str, Any]:
    """What a run is, known before it begins."""
    return {
        "title": study.settings.title,
        "problem": study.settings.problem["kind"],
        "seed": study.settings.seed,
        "versions": {**versions(), **libraries(study)},
    }


def versions() -> dict[str, str]:
    """The versions of what decides the bits of every run: thalweg, numpy, numba, python."""
    found = {}
    for package in ("thalweg", "numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "python": platform.python_version()}


def peak_memory() -> int:
    """The most memory that this process has had, in bytes (resident set size)."""
    # On Linux ru_maxrss survives exec, so a small process started by a large one would show the large one's.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024  # Linux counts in KiB


def misfits(history: History, study: Study) -> dict[str, Any]:
    """``blocks``, ``misfit_start`` and ``misfit_end``, and ``failed_items`` if any may be left out."""
    columns, (_, before) = history.iterations(), compared_from(history.facts())
    start: list[float | None] = []
    end: list[float | None] = []
    for index in range(len(study.blocks)):
        misfit = columns["misfit"][(columns["block"] == index) & (columns["iteration"] > before)]
        start.append(float(misfit[0]) if len(misfit) else None)
        end.append(float(misfit[-1]) if len(misfit) else None)
    names = [block.name or str(index + 1) for index, block in enumerate(study.blocks)]
    found: dict[str, Any] = {"blocks": names, "misfit_start": start, "misfit_end": end}
    if FAILED_ITEMS in columns:
        found[FAILED_ITEMS] = int(np.nansum(columns[FAILED_ITEMS]))
    return found


def closing_table(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines (name, value) that the display shows at the end."""
    lines = [("iterations", str(summary["iterations"]))]
    if summary.get("stopped"):
        lines.append(("stopped by", str(summary["stopped"])))
    if "search" in summary:
        lines += search_lines(summary["search"])
        summary = {
            name: value for name, value in summary.items() if name not in ("blocks", "misfit_start", "misfit_end")
        }
    columns = (summary.get(name, []) for name in ("blocks", "misfit_start", "misfit_end"))
    for name, start, end in zip(*columns, strict=True):
        if start is not None and end is not None:
            lines.append((f"misfit, block {name}", f"{start:.4e} → {end:.4e}"))
    for name, value in summary.items():
        if name not in SHOWN_APART and isinstance(value, (int, float, str)):
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            lines.append((name.replace("_", " "), text))
    lines.append(("time", duration(summary["seconds"])))
    lines.append(("peak memory (own process)", f"{summary['peak_memory_bytes'] / 2**20:.0f} MiB"))
    lines.append(("digest", summary["digest"]))
    return lines


def search_lines(search: dict[str, Any]) -> list[tuple[str, str]]:
    """What a search has chosen, or before its end what is the best so far, as lines of the closing table."""
    best = search.get("best") or {}
    winner, start = search.get("winner") or best, search.get("start") or {}
    on = ScoredOn.read(search.get("scored_on"))
    if best:
        lines = [("best so far", f"candidate {best['candidate']}; the final choice is made at the end of the run")]
    elif winner:
        lines = [("chosen", f"candidate {winner['candidate']}, on {search['chosen_on']}")]
    else:
        lines = [("chosen", "nothing: no candidate was scored")]
    for name, value in winner.get("values", {}).items():
        text = json.dumps(value, ensure_ascii=False)
        lines.append((f"  {name}", text if len(text) <= 400 else f"{text[:397]}..."))
    for part, label in (("search", "in the search"), ("held_out", "held out"), ("test", "in the test")):
        if part in winner:
            of = [f"{one[part]['mean']:.4g}{on.counted(part, one[part])}" for one in (winner, start) if part in one]
            lines.append((f"mean reward {label}", of[0] + (f" (start {of[1]})" if len(of) > 1 else "")))
    against = against_start(search)
    lines += [("metric", on.measure)] if on.measure and winner else []
    lines += [against] if against is not None else []
    lines += [("incomplete", text) for text in search.get("incomplete", ())]
    if search.get("tested_before"):
        others = some(search["tested_before"], "other candidate")
        lines.append(("tested before", f"{others}, on test samples that are not new any more"))
    if "spent" in search:
        lines.append(("spent", amount(search["spent"])))
    if search.get("failed"):
        lines.append(("failed", f"{search['failed']} evaluations"))
    if search.get("refused"):
        lines.append(("refused", f"{some(search['refused'], 'candidate')}, by the variables; the events say why"))
    if search.get("unused"):
        lines.append(("of it not used", f"{amount(search['unused'])}: no longer asked for, or given up"))
    if search.get("not_compared"):
        text = f"candidates 0 to {search['not_compared'] - 1}: something else decides rewards since"
        lines.append(("not compared", text))
    if search.get("lost_in_flight"):
        lines.append(("lost in flight", f"{search['lost_in_flight']} evaluations, charged in full"))
    return lines


def amount(spent: dict[str, Any]) -> str:
    """What was spent, in words.

    Example:
        >>> from thalweg.runs.summary import amount
        >>> amount({"evaluations": 12, "tokens": 3400, "money": 0.0})
        '12 evaluations, 3,400 tokens'
    """
    parts = [f"{spent['tokens']:,} tokens"] if spent["tokens"] else []
    parts += [f"{spent['money']:,.4g} in money"] if spent["money"] else []
    evaluations = [f"{spent['evaluations']:,} evaluations"] if spent["evaluations"] or not parts else []
    return ", ".join(evaluations + parts)
