"""``thalweg watch``: follow a run from another terminal.

It only reads: the history, now and then. The run does not know of it, and ending it leaves the run alone::

    time left = Σ over blocks of (iterations left) · (items an iteration) · (median seconds an item)

with the median over the newest iterations of the present block, since blocks differ in cost.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thalweg.runs.compared import ScoredOn
from thalweg.runs.display import duration, items_of
from thalweg.runs.record import ENDINGS, ITEMS, RunRecord
from thalweg.runs.tables import COLUMNS
from thalweg.runs.telling import line_of, within

_NEWEST = 200  # iterations; enough for a pace, and cheap to read
_EVENTS = 12  # so many of those before are told at most
_STYLES = {"finished": "bold green", "interrupted": "bold yellow", "failed": "bold red", "killed": "bold red"}


@dataclass(frozen=True)
class Sight:
    """What is seen of a run at one moment.

    Args:
        status: :attr:`RunRecord.status`.
        done: committed iterations.
        total: of all blocks.
        block: name of the present block; empty before the first iteration.
        block_done: iterations of the present block that are done.
        block_total: of the present block.
        misfit: of the last batch, before its step; None before the first iteration.
        metrics: of the last iteration.
        left: seconds; None as long as nobody knows.
        item_name: what a sample of a search is called.
    """

    status: str
    done: int
    total: int
    block: str
    block_done: int
    block_total: int
    misfit: float | None
    metrics: dict[str, float]
    left: float | None
    item_name: str = "sample"

    @classmethod
    def of(cls, record: RunRecord) -> Sight:
        """What is seen of a run as it was read."""
        columns, planned = record.iterations, record.block_iterations
        if not record.done:
            return cls(record.status, 0, record.total, "", 0, 0, None, {}, None)
        index = int(columns["block"][-1])
        done = record.done - sum(planned[:index])
        here = planned[index] if index < len(planned) else done
        metrics = {name: float(values[-1]) for name, values in columns.items() if name not in COLUMNS}
        return cls(
            record.status,
            record.done,
            record.total,
            record.block_name(index),
            done,
            here,
            float(columns["misfit"][-1]),
            {name: value for name, value in metrics.items() if value == value},
            _left(record, index, here - done),
            ScoredOn.of(record.facts).item_name,
        )

    def figures(self, gap: str = "  ") -> str:
        """Those of the last iteration."""
        assert self.misfit is not None
        return line_of(self.misfit, self.metrics, gap, self.item_name)

    def line(self) -> str:
        """One line of text."""
        of = f"/{self.total}" if self.total else ""
        if self.misfit is None:
            return f"iteration 0{of}  preparing"
        left = f"  (about {duration(self.left)} left)" if self.left else ""
        return f"iteration {self.done}{of}  {self.block}  {self.figures()}{left}"


def _left(record: RunRecord, index: int, left_here: int) -> float | None:
    columns = record.iterations
    here = columns["block"] == index
    seconds, items = columns["seconds"][here], columns["items"][here]
    if len(seconds) < 2 or record.done >= record.total or record.status != "running":
        return None
    an_item = float(np.median(np.diff(seconds) / items[1:]))
    batch = float(items.mean())
    blocks = record.document.get("blocks")
    sizes = [b.get("batch_size") for b in blocks if isinstance(b, dict)] if isinstance(blocks, list) else []
    known = record.facts.get(ITEMS)  # else by this block, if it has all
    all_items = float(known) if isinstance(known, int) else batch if sizes[index : index + 1] == [None] else None
    later = items_of(zip(record.block_iterations[index + 1 :], sizes[index + 1 :], strict=False), all_items)
    return None if later is None else an_item * (left_here * batch + later)


def watch_run(
    run: Path | str,
    console: Console,
    *,
    interval: float = 0.5,
    least: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Show a run until it ends.

    Args:
        run: its folder.
        console: where; bars that move on a terminal, else lines.
        interval: time between two looks, s.
        least: least time between two lines about iterations, s.
        sleep: what waits.

    Returns:
        How it ended: ``finished``, ``interrupted``, ``failed`` or ``killed``.

    Raises:
        RunError: there is no run, or its history cannot be read.
    """
    moving = console.is_terminal and not console.is_dumb_terminal
    record = RunRecord.read(run, last=_NEWEST)
    console.print(Text(record.title, style="bold"))
    console.print(Text(f"  run folder: {record.folder.path}"), soft_wrap=True)
    begun = [number for number, event in enumerate(record.events) if event["kind"] in ("started", "resumed")]
    told = _tell(console, record, max([*begun[-1:], len(record.events) - _EVENTS, 0]))
    shown, at = -1, -least
    with Live(console=console, auto_refresh=False, transient=True) if moving else nullcontext() as live:
        while True:
            sight = Sight.of(record)
            if live is not None:
                live.update(_bars(sight, _running_for(record), console.width), refresh=True)
            elif sight.done != shown and (sight.status != "running" or time.monotonic() - at >= least):
                console.print(Text(sight.line()), soft_wrap=True)
                shown, at = sight.done, time.monotonic()
            if record.status != "running":
                break
            sleep(interval)
            record = RunRecord.read(run, last=_NEWEST)
            told = _tell(console, record, told)
    _conclude(console, record)
    return record.status


def _tell(console: Console, record: RunRecord, told: int) -> int:
    """Print the events that were not told yet; returns how many there are."""
    for event in record.events[told:]:
        if event["kind"] not in ENDINGS:  # the last line says those
            text = ": ".join(filter(None, (event["kind"], event["text"])))
            console.print(Text(text, style="yellow" if event["kind"] == "warning" else ""), soft_wrap=True)
    return len(record.events)


def _running_for(record: RunRecord) -> str:
    began = [event["time"] for event in record.events if event["kind"] in ("started", "resumed")]
    return f"running for {duration(max(0.0, time.time() - began[-1]))}" if began else ""


def _bars(sight: Sight, running_for: str, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    left = f"{duration(sight.left)} left" if sight.left else ""
    bar = ProgressBar(total=max(sight.total, 1), completed=sight.done)
    grid.add_row("iterations", bar, f"{sight.done}/{sight.total}", left)
    if sight.misfit is None:
        return Group(grid, Text(f"preparing   {running_for}"))
    bar = ProgressBar(total=max(sight.block_total, 1), completed=sight.block_done)
    grid.add_row(Text(sight.block), bar, f"{sight.block_done}/{sight.block_total}", "")
    note = Text(f"{running_for}; Ctrl-C ends the watching, not the run", style="dim")
    return Group(grid, Text(within(sight.figures(gap := "   "), width, gap)), note)


def _conclude(console: Console, record: RunRecord) -> None:
    status = Text(record.status, style=_STYLES.get(record.status, "bold"))
    of = f" of {record.total}" if record.total else ""
    console.print(status.append(f": {record.done}{of} iterations, {duration(record.seconds)}", style="none"))
    error = record.summary.get("error")
    if isinstance(error, dict):
        console.print(Text(f"{error.get('type')}: {error.get('text')}", style="red"), soft_wrap=True)
    path = shlex.quote(str(record.folder.path))
    hint = f"thalweg report {path}" if record.status == "finished" else f"thalweg resume {path}"
    console.print(Text(f"next: {hint}"), soft_wrap=True)
