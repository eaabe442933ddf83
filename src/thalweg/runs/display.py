"""What the user sees while a run works: the face, and the display for output that is no terminal.

On a terminal it is :class:`thalweg.runs.live.LiveDisplay`. Both get the same calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from thalweg.runs.iteration import IterationRecord
from thalweg.runs.settings import GenericBlock
from thalweg.runs.telling import line_of


@dataclass(frozen=True)
class Ending:
    """How a run ended, for the display.

    Args:
        status: ``finished``, ``interrupted`` or ``failed``.
        figures: name and value of each line of the closing table.
        folder: the run's folder.
        picture: the picture to look at, if one was drawn.
        warnings: what went wrong besides, and must not be missed.
    """

    status: str
    figures: list[tuple[str, str]]
    folder: Path
    picture: Path | None = None
    warnings: list[str] = field(default_factory=list)


class Display(Protocol):
    """Told of everything that happens, in this order. ``items`` and ``stage`` may be called from any
    thread."""

    def begin(self, title: str, folder: Path, plan: Sequence[tuple[str, str]], blocks: Sequence[GenericBlock]) -> None:
        """The run begins; ``plan`` is what it will need."""

    def stage(self, done: int, total: int, text: str) -> None:
        """Something besides the iterations (such as making data) has got so far."""

    def begin_block(self, index: int, block: GenericBlock, batch_items: float, *, done: int = 0) -> None:
        """A block begins; its batches have so many items on average."""

    def items(self, done: int, total: int) -> None:
        """So many items of the present batch are done."""

    def iteration(self, record: IterationRecord) -> None:
        """A step was committed."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def end(self, ending: Ending) -> None:
        """The run ended; nothing comes after it."""


class QuietDisplay:
    """Shows nothing."""

    def begin(self, title: str, folder: Path, plan: Sequence[tuple[str, str]], blocks: Sequence[GenericBlock]) -> None:
        """Show nothing."""

    def stage(self, done: int, total: int, text: str) -> None:
        """Show nothing."""

    def begin_block(self, index: int, block: GenericBlock, batch_items: float, *, done: int = 0) -> None:
        """Show nothing."""

    def items(self, done: int, total: int) -> None:
        """Show nothing."""

    def iteration(self, record: IterationRecord) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def end(self, ending: Ending) -> None:
        """Show nothing."""


class GuardedDisplay:
    """Passes everything on, until the display breaks: a closed terminal must not end a run of days.

    Args:
        display: what is guarded.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self.fault: Exception | None = None

    def begin(self, title: str, folder: Path, plan: Sequence[tuple[str, str]], blocks: Sequence[GenericBlock]) -> None:
        """Pass it on."""
        self._try(lambda: self._display.begin(title, folder, plan, blocks))

    def stage(self, done: int, total: int, text: str) -> None:
        """Pass it on."""
        self._try(lambda: self._display.stage(done, total, text))

    def begin_block(self, index: int, block: GenericBlock, batch_items: float, *, done: int = 0) -> None:
        """Pass it on."""
        self._try(lambda: self._display.begin_block(index, block, batch_items, done=done))

    def items(self, done: int, total: int) -> None:
        """Pass it on."""
        self._try(lambda: self._display.items(done, total))

    def iteration(self, record: IterationRecord) -> None:
        """Pass it on."""
        self._try(lambda: self._display.iteration(record))

    def note(self, text: str) -> None:
        """Pass it on."""
        self._try(lambda: self._display.note(text))

    def end(self, ending: Ending) -> None:
        """Pass it on."""
        self._try(lambda: self._display.end(ending))

    def _try(self, call: Callable[[], None]) -> None:
        if self.fault is not None:
            return
        try:
            call()
        except Exception as error:  # whatever a display can do wrong
            self.fault = error


class PlainDisplay:
    """Lines of text, for output that is no terminal (a file, a pipe, a batch system's log).

    Args:
        stream: where to write.
        interval: least time between two lines about iterations, s; the first and last of a block always have
            one.
        item_name: what a sample of a search is called.
    """

    def __init__(self, stream: TextIO, *, interval: float = 2.0, item_name: str = "sample") -> None:
        self._stream = stream
        self._item_name = item_name
        self._interval = interval
        self._last = -interval
        self._pace = Pace()
        self._staged = ""
        self._stage_rest = ""  # the line that ends the present stage, if it was not printed yet

    def begin(self, title: str, folder: Path, plan: Sequence[tuple[str, str]], blocks: Sequence[GenericBlock]) -> None:
        """Print title, folder and plan."""
        self._pace.plan(blocks)
        self._print(title, f"  run folder: {folder}", *(f"  {name}: {value}" for name, value in plan))

    def stage(self, done: int, total: int, text: str) -> None:
        """Print when a stage begins, when it ends, and every few seconds between."""
        if text != self._staged:
            self._end_stage()
        if text != self._staged or done >= total or self._due():
            self._staged, self._last = text, time.monotonic()
            self._print(f"{text}: {done}/{total}")
        self._stage_rest = f"{text}: {total}/{total}" if done < total else ""

    def begin_block(self, index: int, block: GenericBlock, batch_items: float, *, done: int = 0) -> None:
        """Print the block."""
        self._end_stage()
        self._pace.begin_block(index, batch_items, done)
        self._print(f"block {index + 1} of {len(self._pace.blocks)}{f' ({block.name})' if block.name else ''}")

    def items(self, done: int, total: int) -> None:
        """Print nothing: a line a shot is too many."""

    def iteration(self, record: IterationRecord) -> None:
        """Print the figures of an iteration."""
        first_or_last = self._pace.iteration(record)
        if first_or_last or self._due():
            self._last = time.monotonic()
            left = self._pace.left()
            remaining = f", about {duration(left)} left" if left else ""
            figures = line_of(record.misfit, record.metrics, item_name=self._item_name)
            self._print(
                f"iteration {record.iteration}/{self._pace.total}  {figures}  ({duration(record.seconds)}{remaining})"
            )

    def note(self, text: str) -> None:
        """Print the text."""
        self._print(text)

    def end(self, ending: Ending) -> None:
        """Print the closing table."""
        width = max((len(name) for name, _ in ending.figures), default=0)
        self._print(f"{ending.status}:", *(f"  {name:<{width}}  {value}" for name, value in ending.figures))
        self._print(*(f"warning: {text}" for text in ending.warnings), f"run: {ending.folder}")
        if ending.picture is not None:
            self._print(f"picture: {ending.picture}")

    def _end_stage(self) -> None:
        rest, self._stage_rest = self._stage_rest, ""
        if rest:
            self._print(rest)

    def _due(self) -> bool:
        if time.monotonic() - self._last < self._interval:
            return False
        self._last = time.monotonic()
        return True

    def _print(self, *lines: str) -> None:
        for line in lines:
            self._stream.write(line + "\n")
        self._stream.flush()


class Pace:
    """How far a run is, and how long the rest will take at the present block's pace.

    The rest is (items left) · (seconds an item), measured over the present block, since blocks differ in
    cost. How many items there are in all is known where a block of all of them has begun; if it is not, and a later
    block takes all, nobody knows the rest.
    """

    def __init__(self) -> None:
        self.blocks: Sequence[GenericBlock] = ()
        self.total = 0
        self.done = 0
        self.block = 0
        self.block_done = 0
        self._batch_items = 1.0
        self._all_items: float | None = None
        self._items = 0
        self._began = time.monotonic()

    def plan(self, blocks: Sequence[GenericBlock]) -> None:
        """The blocks to come."""
        self.blocks = blocks
        self.total = sum(block.iterations for block in blocks)

    def begin_block(self, index: int, batch_items: float, done: int = 0) -> None:
        """A block begins, or goes on after so many of its iterations."""
        self.block, self.block_done, self._items = index, done, 0
        self._batch_items = batch_items
        if self.blocks[index].batch_size is None:
            self._all_items = batch_items
        self._began = time.monotonic()

    def iteration(self, record: IterationRecord) -> bool:
        """Count a step; True if it is the first or the last of its block."""
        self.done, self.block_done = record.iteration, self.block_done + 1
        self._items += record.items
        return self.block_done in (1, self.blocks[self.block].iterations)

    def left(self) -> float | None:
        """Seconds left, None as long as nobody knows."""
        items = self._items  # another thread may ask while a block begins
        if not items or self.done >= self.total:
            return None
        an_item = (time.monotonic() - self._began) / items
        later = items_of(((b.iterations, b.batch_size) for b in self.blocks[self.block + 1 :]), self._all_items)
        present = self.blocks[self.block].iterations - self.block_done
        return None if later is None else (present * self._batch_items + later) * an_item


def items_of(blocks: Iterable[tuple[int, Any]], all_items: float | None) -> float | None:
    """How many items the iterations of blocks have.

    Args:
        blocks: iterations of each, and its ``batch_size``; one without it takes all items.
        all_items: how many there are; None if nobody knows.

    Returns:
        The sum; None if nobody knows.

    Example:
        >>> from thalweg.runs.display import items_of
        >>> items_of([(3, 2), (5, None)], 40), items_of([(3, 2), (5, None)], None), items_of([(3, 2)], None)
        (206.0, None, 6.0)
    """
    total = 0.0
    for iterations, size in blocks:
        batch = size if isinstance(size, int) else all_items
        if batch is None:
            return None
        total += iterations * batch
    return total


def duration(seconds: float) -> str:
    """A time as people write it.

    Example:
        >>> from thalweg.runs.display import duration
        >>> duration(0.26), duration(75), duration(7300)
        ('0.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
