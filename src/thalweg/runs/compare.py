"""``thalweg compare``: runs beside each other, in a table, as JSON, and as a picture of their misfits.

Equal digests mean the same model to the last bit; of the studies only the keys that differ are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.errors import RunError
from thalweg.runs.display import duration
from thalweg.runs.folder import replacing
from thalweg.runs.record import RunRecord
from thalweg.runs.report.changes import NOT_THERE, flat
from thalweg.runs.summary import SHOWN_APART

_NAME_WIDTH, _RUN_WIDTH = 26, 22  # columns of the terminal
_SHORT_DIGEST = 12


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other.

    Args:
        names: what the user called them.
        records: the runs.
    """

    names: tuple[str, ...]
    records: tuple[RunRecord, ...]

    @classmethod
    def read(cls, runs: Sequence[Path | str]) -> Comparison:
        """Read runs.

        Raises:
            RunError: there are fewer than two, one is none, or cannot be read.
        """
        if len(runs) < 2:
            raise RunError("One run has nothing to be compared with. Name two or more: thalweg compare RUN RUN")
        names = tuple(str(run).rstrip("/") or "/" for run in runs)
        return cls(names, tuple(RunRecord.read(run) for run in runs))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values.

        ``runs`` has one entry a run; ``same_model`` groups the names of those whose digests are equal;
        ``study_differences`` has, by dotted path, the values in the order of the runs, as JSON text, null where a
        study does not have the key.
        """
        return {
            "runs": [self._entry(name, record) for name, record in zip(self.names, self.records, strict=True)],
            "same_model": self.same_model(),
            "study_differences": {
                key: [None if value == NOT_THERE else value for value in values]
                for key, values in self.study_differences().items()
            },
        }

    def same_model(self) -> list[list[str]]:
        """The names of runs that ended with the same model, two or more in a group."""
        groups: dict[str, list[str]] = {}
        for name, record in zip(self.names, self.records, strict=True):
            if (digest := digest_of(record)) is not None:
                groups.setdefault(digest, []).append(name)
        return [group for group in groups.values() if len(group) > 1]

    def study_differences(self) -> dict[str, list[str]]:
        """By dotted path, the values of the keys in which the studies differ, in the order of the runs."""
        studies = [flat(record.document) for record in self.records]
        keys = dict.fromkeys(key for study in studies for key in study)
        found = {key: [study.get(key, NOT_THERE) for study in studies] for key in keys}
        return {key: values for key, values in found.items() if len(set(values)) > 1}

    def _entry(self, name: str, record: RunRecord) -> dict[str, Any]:
        return {
            "run": name,
            "title": record.title,
            "status": record.status,
            "iterations": record.done,
            "iterations_planned": record.total,
            "seconds": record.seconds,
            "blocks": misfits_of(record),
            "digest": digest_of(record),
            "summary": own_numbers(record),
        }


def digest_of(record: RunRecord) -> str | None:
    """The digest of the model that a run ended with; None while it runs, or where it was killed."""
    found = record.summary.get("digest")
    return found if isinstance(found, str) and record.status not in ("running", "killed") else None


def misfits_of(record: RunRecord) -> list[dict[str, Any]]:
    """By block: name, iterations, misfit an item of its first and of its last batch (None before it began). Of a
    search the misfit is minus the best reward."""
    found = []
    misfits = record.iterations["misfit"]
    if "best" in record.iterations:
        misfits = -record.iterations["best"]
    for index in range(len(record.block_iterations)):
        misfit = misfits[record.iterations["block"] == index]
        ends = (float(misfit[0]), float(misfit[-1])) if len(misfit) else (None, None)
        name = record.block_name(index)
        found.append({"name": name, "iterations": len(misfit), "misfit_start": ends[0], "misfit_end": ends[1]})
    return found


def own_numbers(record: RunRecord) -> dict[str, float]:
    """The numbers that the problem put into the summary."""
    return {
        name: value
        for name, value in record.summary.items()
        if name not in SHOWN_APART and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table: a column a run, as many beside each other as the terminal has room for."""
    rows = _rows(comparison)
    each = max(1, (console.width - _NAME_WIDTH) // _RUN_WIDTH) if console.is_terminal else len(comparison.names)
    for start in range(0, len(comparison.names), each):
        chosen = slice(start, start + each)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", overflow="fold")
        for name in comparison.names[chosen]:
            table.add_column(Text(name), overflow="fold")
        for title, values in rows:
            table.add_row(Text(title, style="dim" if values else "bold"), *(Text(v) for v in values[chosen]))
        if start:
            console.print()
        console.print(table)
    groups = comparison.same_model()
    for group in groups:
        same = "All ended with the same model" if len(group) == len(comparison.names) else "The same model"
        console.print(Text(f"{same}, to the last bit: {', '.join(group)}.", style="green"), soft_wrap=True)
    if not groups:
        console.print(Text("No two of them ended with the same model, to the last bit."))


def _rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    records = comparison.records
    rows = [
        ("status", [record.status for record in records]),
        ("iterations", [f"{r.done}/{r.total}" if r.total else str(r.done) for r in records]),
        ("time", [duration(record.seconds) for record in records]),
    ]
    blocks = [misfits_of(record) for record in records]
    for index in range(max((len(b) for b in blocks), default=0)):
        names = dict.fromkeys(b[index]["name"] for b in blocks if index < len(b))
        what = "−best reward" if all("best" in record.iterations for record in records) else "misfit"
        rows.append((f"{what}, {' or '.join(names)}", [_misfit(b[index]) if index < len(b) else "" for b in blocks]))
    chosen = [_chosen(record) for record in records]
    rows += [(name, [found.get(name, "") for found in chosen]) for name in dict.fromkeys(n for f in chosen for n in f)]
    numbers = [own_numbers(record) for record in records]
    for name in dict.fromkeys(name for entry in numbers for name in entry):
        rows.append((name.replace("_", " "), [f"{n[name]:.6g}" if name in n else "" for n in numbers]))
    rows.append(("digest", [(digest_of(record) or "")[:_SHORT_DIGEST] for record in records]))
    differences = comparison.study_differences()
    rows.append(("study keys that differ:" if differences else "the studies are the same", []))
    rows += [(f"  {key}", values) for key, values in differences.items()]
    return rows


def _chosen(record: RunRecord) -> dict[str, str]:
    """What a search has chosen: mean rewards of the winner, and what they cost."""
    search: Any = record.summary.get("search")
    found: dict[str, str] = {}
    try:
        winner = search["winner"] if search else {}
        for part, name in (("search", "reward, search"), ("held_out", "reward, held out"), ("test", "reward, test")):
            if part in winner:
                found[name] = f"{winner[part]['mean']:.4g}"
        if winner:
            found["evaluations"] = f"{search['spent']['evaluations']}"
            if search["spent"]["tokens"]:
                found["tokens"] = f"{search['spent']['tokens']}"
    except (LookupError, TypeError, ValueError):  # somebody else's file
        return {}
    return found


def _misfit(block: dict[str, Any]) -> str:
    if block["misfit_start"] is None:
        return "not begun"
    return f"{block['misfit_start']:.4g} → {block['misfit_end']:.4g}"


def draw_comparison(comparison: Comparison, out: Path) -> None:
    """Draw the misfit an item of all runs over the iterations.

    Args:
        comparison: the runs.
        out: the file; its suffix says what it is (``.png``, ``.svg``, ``.pdf``).

    Raises:
        RunError: the suffix is none of those, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    kind = out.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise RunError(f"The picture {str(out)!r} has the suffix {out.suffix!r}; it must be .png, .svg or .pdf.")
    figure = Figure(figsize=(8.0, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    positive = True
    for index, (name, record) in enumerate(zip(comparison.names, comparison.records, strict=True)):
        x, y = _curve(record)
        positive &= bool(np.all(y[np.isfinite(y)] > 0))
        # A dollar sign would begin a formula, a leading underscore would hide the run from the legend.
        label = name.replace("$", r"\$")
        marker = "o" if len(x) <= 60 else None
        width = max(1.2, 3.6 - 1.2 * index)  # so that of equal curves the first is seen under the second
        label = f" {label}" if label.startswith("_") else label
        axes.plot(x, y, label=label, marker=marker, markersize=width + 1.5, linewidth=width)
    if positive:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("iteration")
    axes.set_ylabel("misfit an item")
    axes.set_title("gaps are between blocks, which may measure different things", fontsize=9, color="0.4")
    axes.grid(alpha=0.3)
    axes.legend()
    if not out.parent.is_dir():
        raise RunError(f"There is no folder {out.parent} for the picture. Make it, or name another file with --out.")
    with replacing(out) as file:
        figure.savefig(file, format=kind)


def _curve(record: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and misfits, with a gap after each block."""
    x = record.iterations["iteration"].astype(np.float64)
    y = record.iterations["misfit"]
    ends = np.flatnonzero(np.diff(record.iterations["block"])) + 1
    return np.insert(x, ends, np.nan), np.insert(y, ends, np.nan)
