"""``thalweg compare``: runs beside each other, in a table, as JSON, and as a picture of their misfits.

Equal digests mean the same model to the last bit; of the studies only the keys that differ are shown, and what was
changed when a run went on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.errors import RunError
from thalweg.runs.against import difference_cell
from thalweg.runs.bits import computed_with, differing
from thalweg.runs.compared import ScoredOn, compared
from thalweg.runs.differences import PLACING
from thalweg.runs.display import duration
from thalweg.runs.ended import ended_digest
from thalweg.runs.files import replacing
from thalweg.runs.record import RunRecord
from thalweg.runs.report.changes import NOT_THERE, Change, changes_of, contents_of, flat
from thalweg.runs.summary import SHOWN_APART

_NAME_WIDTH, _RUN_WIDTH = 26, 22  # columns of the terminal
_WIDEST = 500  # characters of a line that no terminal shows
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

        ``runs`` has one entry a run; its ``digest`` is null where it is not known which model the run ended with, as of
        one that goes on or was killed. ``same_model`` groups the names of those whose digests are equal;
        ``study_differences`` has, by dotted path, the values in the order of the runs, as JSON text, null where a
        study does not have the key. Of each run ``changes`` has what was changed when it went on: the study is the one
        that it ended with. ``computed_with_differences`` has, of versions and machine code, what is not the same in all
        runs: for each of them a list, of more than one value if it went on with another.
        """
        return {
            "runs": [self._entry(*run) for run in zip(self.names, self.records, self.digests, strict=True)],
            "same_model": self.same_model(),
            "study_differences": {
                key: [None if value == NOT_THERE else value for value in values]
                for key, values in self.study_differences().items()
            },
            "computed_with_differences": self.computed_with_differences(),
        }

    @cached_property
    def digests(self) -> list[str | None]:
        """Of each run the digest of the model that it ended with (:func:`thalweg.runs.ended.ended_digest`)."""
        return [ended_digest(record) for record in self.records]

    def same_model(self) -> list[list[str]]:
        """The names of runs that ended with the same model, two or more in a group."""
        groups: dict[str, list[str]] = {}
        for name, digest in zip(self.names, self.digests, strict=True):
            if digest is not None:
                groups.setdefault(digest, []).append(name)
        return [group for group in groups.values() if len(group) > 1]

    def study_differences(self) -> dict[str, list[str]]:
        """By dotted path, the values of the keys in which the studies differ, in the order of the runs; of files also
        digests of what was in them."""
        studies = [{**flat(record.document), **contents_of(record)} for record in self.records]
        keys = dict.fromkeys(key for study in studies for key in study)
        found = {key: [study.get(key, NOT_THERE) for study in studies] for key in keys}
        return {key: values for key, values in found.items() if len(set(values)) > 1}

    def computed_with_differences(self) -> dict[str, list[list[str]]]:
        """By name what decides the last bits and is not the same: of each run one value, or more in order if it went on
        with others (:func:`thalweg.runs.bits.differing`)."""
        return differing([computed_with(record) for record in self.records])

    def _entry(self, name: str, record: RunRecord, digest: str | None) -> dict[str, Any]:
        return {
            "run": name,
            "title": record.title,
            "status": record.status,
            "iterations": record.done,
            "iterations_planned": record.total,
            "seconds": record.seconds,
            "blocks": misfits_of(record),
            "digest": digest,
            "summary": own_numbers(record),
            "changes": [
                {"after_iteration": change.iteration, "key": change.key, "before": change.before, "after": change.after}
                for change in changed_on_the_way(record)
            ],
        }


def changed_on_the_way(record: RunRecord) -> list[Change]:
    """What was changed in the study when the run went on, so that only a part of it was made with what the study says
    now; not where the work was done, and not what was changed again before an iteration was made with it."""
    found: dict[tuple[str, int], Change] = {}
    for change in changes_of(record):
        if change.iteration and change.key not in PLACING:
            before = found.setdefault((change.key, change.iteration), change).before
            found[change.key, change.iteration] = replace(change, before=before)
    return [change for change in found.values() if change.before != change.after]


def misfits_of(record: RunRecord) -> list[dict[str, Any]]:
    """By block: name, iterations, misfit an item of its first and of its last batch (None before it began). Of a
    search the misfit is minus the best reward, and ``samples_start`` and ``samples_end`` say of how many samples that
    is, where the run says it."""
    found = []
    misfits = record.iterations["misfit"]
    if "best" in record.iterations:
        misfits = -compared(record.iterations, record.facts, "best")
    counts = record.iterations.get("best_samples")
    for index in range(len(record.block_iterations)):
        there = record.iterations["block"] == index
        there_known = there & np.isfinite(misfits)
        misfit = misfits[there_known]
        ends = (float(misfit[0]), float(misfit[-1])) if len(misfit) else (None, None)
        name = record.block_name(index)
        entry = {"name": name, "iterations": int(there.sum()), "misfit_start": ends[0], "misfit_end": ends[1]}
        if counts is not None and len(misfit) and np.isfinite(counts[there_known]).all():
            of = counts[there_known]
            entry |= {"samples_start": int(of[0]), "samples_end": int(of[-1])}
        found.append(entry)
    return found


def own_numbers(record: RunRecord) -> dict[str, float]:
    """The numbers that the problem put into the summary."""
    return {
        name: value
        for name, value in record.summary.items()
        if name not in SHOWN_APART and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table: a column a run, as many beside each other as the terminal has room for; in one piece, as wide as
    it is, where there is none."""
    rows = _rows(comparison)
    longest = max((len(title) for title, _ in rows), default=0)
    each = max(1, (console.width - _NAME_WIDTH) // _RUN_WIDTH) if console.is_terminal else len(comparison.names)
    for start in range(0, len(comparison.names), each):
        chosen = slice(start, start + each)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", overflow="fold", min_width=min(longest, console.width // 2))
        for name in comparison.names[chosen]:
            table.add_column(Text(name), overflow="fold")
        for title, values in rows:
            table.add_row(Text(title, style="dim" if values else "bold"), *(Text(v) for v in values[chosen]))
        if start:
            console.print()
        if not console.is_terminal:  # a file, or a program that reads the lines
            wide = console.options.update(width=_WIDEST)
            console.width = max(console.width, console.measure(table, options=wide).maximum)
        console.print(table)
    for text, style in _same(comparison):
        console.print(Text(text, style=style), soft_wrap=True)


def _same(comparison: Comparison) -> list[tuple[str, str]]:
    """Which runs came to the same, as sentences with their styles; and of which it is not known."""
    names, groups = comparison.names, comparison.same_model()
    searches = all(map(is_search, comparison.records))
    ended, model = ("chose the same values", "values") if searches else ("ended with the same model", "model")
    bits = "" if searches else ", to the last bit"
    found = []
    for group in groups:
        same = f"All {ended}" if len(group) == len(names) else f"The same {model}"
        found.append((f"{same}{bits}: {', '.join(group)}.", "green"))
    known = [name for name, digest in zip(names, comparison.digests, strict=True) if digest is not None]
    if not groups and len(known) > 1:
        some = "them" if len(known) == len(names) else ", ".join(known)
        found.append((f"No two of {some} {ended}{bits}.", ""))
    runs = zip(names, comparison.records, comparison.digests, strict=True)
    unknown = [f"{name} ({_why_unknown(record)})" for name, record, digest in runs if digest is None]
    if unknown:
        found.append((f"Not known is the {model} of {', '.join(unknown)}.", ""))
    return found


def _why_unknown(record: RunRecord) -> str:
    ways = {"running": "it has not ended", "killed": "it was killed"}
    return ways.get(record.status, "no digest of its end is left")


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
        title = f"{_measure(records)}, {' or '.join(names)}"
        sign = -1.0 if all(map(is_search, records)) else 1.0
        rows.append((title, [_misfit(b[index], sign) if index < len(b) else "" for b in blocks]))
    chosen = [_chosen(record) for record in records]
    rows += [(name, [found.get(name, "") for found in chosen]) for name in dict.fromkeys(n for f in chosen for n in f)]
    numbers = [own_numbers(record) for record in records]
    for name in dict.fromkeys(name for entry in numbers for name in entry):
        rows.append((name.replace("_", " "), [f"{n[name]:.6g}" if name in n else "" for n in numbers]))
    rows.append(("digest", [(digest or "")[:_SHORT_DIGEST] for digest in comparison.digests]))
    differences = comparison.study_differences()
    changes = [changed_on_the_way(record) for record in records]
    if not any(changes):
        rows.append(("study keys that differ:" if differences else "the studies are the same", []))
    else:
        rows.append(("study keys that differ at the end:" if differences else "the studies end as the same", []))
    rows += [(f"  {key}", values) for key, values in differences.items()]
    rows += [("changed on the way:", [])] if any(changes) else []
    for key in dict.fromkeys(change.key for found in changes for change in found):
        rows.append((f"  {key}", [", ".join(_change(c) for c in found if c.key == key) for found in changes]))
    other = comparison.computed_with_differences()
    rows += [("versions and machine code that differ:", [])] if other else []
    rows += [(f"  {name}", [" → ".join(values) for values in found]) for name, found in other.items()]
    return rows


def _change(change: Change) -> str:
    return f"{change.before} → {change.after} after iteration {change.iteration}"


def _chosen(record: RunRecord) -> dict[str, str]:
    """What a search has chosen: mean rewards of the winner, and what they cost."""
    search: Any = record.summary.get("search")
    found: dict[str, str] = {}
    try:
        winner = search["winner"] if search else {}
        on = ScoredOn.read(search.get("scored_on") if search else None)
        for part, name in (("search", "reward, search"), ("held_out", "reward, held out"), ("test", "reward, test")):
            if part in winner:
                found[name] = f"{winner[part]['mean']:.4g}{on.counted(part, winner[part])}"
        if "difference" in search:
            found["against the start"] = difference_cell(search)
        if winner:
            found["evaluations"] = f"{search['spent']['evaluations']}"
            if search["spent"]["tokens"]:
                found["tokens"] = f"{search['spent']['tokens']}"
    except (LookupError, TypeError, ValueError):  # somebody else's file
        return {}
    return found


def _misfit(block: dict[str, Any], sign: float) -> str:
    if block["misfit_start"] is None:
        return "not begun"
    start, end = (sign * block[f"misfit_{name}"] + 0.0 for name in ("start", "end"))  # 0.0: no -0 of a reward of 0
    counts = [block[name] for name in ("samples_start", "samples_end") if name in block]
    if len(set(counts)) > 1:  # they are no match for each other
        return f"{start:.4g} (on {counts[0]}) → {end:.4g} (on {counts[1]})"
    return f"{start:.4g} → {end:.4g}"


def is_search(record: RunRecord) -> bool:
    """Whether a run is a search: higher is better, and there is a best candidate so far."""
    return "best" in record.iterations


def _measure(records: Sequence[RunRecord]) -> str:
    """What the runs are told by: a reward where all of them have one."""
    searches = [is_search(record) for record in records]
    return "best reward" if all(searches) else "misfit, or −best reward" if any(searches) else "misfit"


def draw_comparison(comparison: Comparison, out: Path) -> None:
    """Draw the misfit an item of all runs over the iterations; of searches the best mean reward so far.

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
    positive, searches = True, all(map(is_search, comparison.records))
    for index, (name, record) in enumerate(zip(comparison.names, comparison.records, strict=True)):
        x, y = _curve(record)
        y = -y if searches else y  # a reward, which may be above 0 by chance: no logarithm
        positive &= not searches and bool(np.all(y[np.isfinite(y)] > 0))
        # A dollar sign would begin a formula, a leading underscore would hide the run from the legend.
        label = name.replace("$", r"\$")
        marker = "o" if len(x) <= 60 else None
        width = max(1.2, 3.6 - 1.2 * index)  # so that of equal curves the first is seen under the second
        label = f" {label}" if label.startswith("_") else label
        axes.plot(x, y, label=label, marker=marker, markersize=width + 1.5, linewidth=width)
    if positive:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")
    if searches:
        axes.set_ylabel("best mean reward so far")
    else:
        axes.set_ylabel(_measure(comparison.records).replace("misfit", "misfit an item"))
        axes.set_title("gaps are between blocks, which may measure different things", fontsize=9, color="0.4")
    axes.grid(alpha=0.3)
    axes.legend()
    if not out.parent.is_dir():
        raise RunError(f"There is no folder {out.parent} for the picture. Make it, or name another file with --out.")
    with replacing(out) as file:
        figure.savefig(file, format=kind)


def _curve(record: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and misfits, with a gap after each block; of a search minus the best rewards."""
    x = record.iterations["iteration"].astype(np.float64)
    best = is_search(record)
    y = -compared(record.iterations, record.facts, "best") if best else record.iterations["misfit"]
    ends = np.flatnonzero(np.diff(record.iterations["block"])) + 1
    return np.insert(x, ends, np.nan), np.insert(y, ends, np.nan)
