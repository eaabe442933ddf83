"""The display on a terminal: bars that move, and a table at the end (rich)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from thalweg.runs.display import Ending, Pace, duration
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.settings import GenericBlock
from thalweg.runs.telling import line_of, several, within

_GAP = "   "
_STYLES = {"finished": "bold green", "interrupted": "bold yellow", "failed": "bold red"}


class LiveDisplay:
    """Progress bars for stages, iterations and items, with misfit and metrics under them.

    Args:
        console: the terminal.
        item_name: what one item is called.
    """

    def __init__(self, console: Console, *, item_name: str = "item") -> None:
        self._console = console
        self._item_name = item_name
        self._pace = Pace()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            expand=True,
        )
        self._figures = Text("")
        self._stage: TaskID | None = None
        self._iterations: TaskID | None = None
        self._items: TaskID | None = None
        self._record: IterationRecord | None = None  # the last one
        self._shown: IterationRecord | None = None
        self._counts: tuple[int, int] | None = None  # of the items of the present batch
        self._new_batch = False
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=8,
            transient=True,
            redirect_stderr=False,
        )

    def begin(self, title: str, folder: Path, plan: Sequence[tuple[str, str]], blocks: Sequence[GenericBlock]) -> None:
        """Print title and plan, and show the bars from now on."""
        self._pace.plan(blocks)
        self._console.print(Text(title, style="bold"))
        self._console.print(_table([*plan, ("run folder", str(folder))]))
        self._live.start()

    def stage(self, done: int, total: int, text: str) -> None:
        """Move the bar of a stage; it leaves when the iterations begin."""
        if self._stage is None:
            self._stage = self._progress.add_task(text, total=total, left="")
        self._progress.update(self._stage, completed=done, total=total, description=text)

    def begin_block(self, index: int, block: GenericBlock, batch_items: float, *, done: int = 0) -> None:
        """Name the block beside the bar."""
        self._pace.begin_block(index, batch_items, done)
        if self._stage is not None:
            self._progress.remove_task(self._stage)
            self._stage = None
        if self._iterations is None:
            self._iterations = self._progress.add_task("", total=self._pace.total, left="")
            self._items = self._progress.add_task(several(self._item_name), total=None, left="")
        name = f" {block.name}" if block.name else ""
        text = f"block {index + 1}/{len(self._pace.blocks)}{name}"
        self._progress.update(self._iterations, description=text)

    def items(self, done: int, total: int) -> None:
        """Have the bar of the present batch moved."""
        self._new_batch |= done == 1
        self._counts = done, total

    def iteration(self, record: IterationRecord) -> None:
        """Have the bar of the iterations moved and the figures shown."""
        self._pace.iteration(record)
        self._record = record

    def _drawn(self) -> Group:
        """What is shown, brought up to date: a few times a second, where iterations may be thousands."""
        if self._items is not None and (counts := self._counts) is not None:
            if self._new_batch:
                self._new_batch = False
                self._progress.reset(self._items)  # its clock shows the present batch
            self._progress.update(self._items, completed=counts[0], total=counts[1])
        if self._iterations is not None and (record := self._record) is not self._shown:
            assert record is not None
            self._shown = record
            left = self._pace.left()
            text = f"{duration(left)} left" if left else ""
            self._progress.update(self._iterations, completed=record.iteration, left=text)
            figures = line_of(record.misfit, record.metrics, _GAP, self._item_name)
            line = f"iteration {record.iteration}{_GAP}{figures}"
            self._figures.plain = within(line, self._console.width, _GAP)
        return Group(self._progress, self._figures)

    def note(self, text: str) -> None:
        """Print a text above the bars."""
        self._console.print(Text(text, style="yellow"))

    def end(self, ending: Ending) -> None:
        """Take the bars away and print the closing table."""
        self._live.stop()
        self._console.print(Text(ending.status, style=_STYLES.get(ending.status, "bold")))
        self._console.print(_table(ending.figures))
        for text in ending.warnings:
            self._console.print(Text(f"warning: {text}", style="yellow"))
        # Without wrapping, so that paths can be copied and clicked.
        self._console.print(Text(f"run: {ending.folder}"), soft_wrap=True)
        if ending.picture is not None:
            self._console.print(Text(f"picture: {ending.picture}", style="bold"), soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back at once."""
        self._live.stop()


def _table(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest that is cut off is worth nothing
    for name, value in lines:
        table.add_row(Text(f"  {name}", style="dim"), Text(value))
    return table
