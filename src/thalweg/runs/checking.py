"""``thalweg check``: what a study will need, and what can be measured before it runs.

The plan is printed first, with what the checks themselves ask for; then each check as soon as it is known, with a sign
of life while one takes its time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.graph import wait
from thalweg.runs import rewarded
from thalweg.runs.display import duration
from thalweg.runs.outline import outline
from thalweg.runs.problem import Check
from thalweg.runs.settings import LocalRuntime
from thalweg.runs.study import Study
from thalweg.runs.work import Work
from thalweg.runtime import Local

_ANNOUNCE_AFTER = 2.0  # s; from here on a user wonders whether anything happens
_WIDE = 100  # columns; from here on there is room for the sentence that says why a check matters


def print_checks(study: Study, console: Console) -> bool:
    """Print plan and checks of a study; True if all checks are kept.

    Raises:
        ThalwegError: the study was refused, as a run would refuse it.
    """
    console.print(Text(study.settings.title, style="bold"))
    checks: list[Check] = []
    table = study.settings.runtime
    with Local(table.threads if isinstance(table, LocalRuntime) else None) as runtime, ExitStack() as held:
        with console.status("building the problem"):  # as a run builds it, so that both refuse the same
            work = wait(Work.of(study, runtime, Path(study.settings.output.folder), held, start=False))
        problem, plan = work.problem, [*outline(study, work.problem, runtime), *work.plan, work.room.line]
        paid = True
        if problem.rewarded:
            asked, paid = _asked(study, problem)
            plan += [*rewarded.engine_lines(work.optimizer), *asked]
        console.print(_grid(plan))
        for check in _announced(problem.checks() if paid else iter(()), console):
            checks.append(check)
            if not console.is_terminal:  # a log shows how far it got; a terminal gets the table at the end
                console.print(Text(f"{'ok' if check.ok else 'NOT OK'}: {check.name}"), soft_wrap=True)
        most = _most_evaluations(study, problem, work.optimizer) if problem.rewarded else 0
    wide = console.width >= _WIDE
    console.print(_table(checks, texts=wide))
    failed = [check for check in checks if not check.ok]
    for check in failed if not wide else []:
        console.print(Text(f"{check.name}: {check.text}", style="red"), soft_wrap=True)
    seconds = expected_seconds(study, problem.items, runtime.workers, checks)
    if seconds is not None and problem.rewarded:
        seconds = most / runtime.workers * max(check.seconds or 0.0 for check in checks)
    if seconds is not None:
        threads = f"{runtime.workers} thread{'s' if runtime.workers > 1 else ''}"
        console.print(_grid([("expected time", f"about {duration(seconds)} on {threads}")]))
    console.print(f"{len(checks) - len(failed)} of {len(checks)} checks are kept.")
    return not failed


def _asked(study: Study, problem: Any) -> tuple[list[tuple[str, str]], bool]:
    from thalweg.runs.costing import check_lines

    return check_lines(problem, study.settings.budget)


def _most_evaluations(study: Study, problem: Any, search: Any) -> int:
    from thalweg.runs.costing import most_of

    return min(most_of(problem, search, study.blocks).evaluations, study.settings.budget.evaluations or 1 << 62)


def expected_seconds(study: Study, items: int, workers: int, checks: Sequence[Check]) -> float | None:
    """The time that the iterations of a study will take, s; None if no check measured an item's time::

        Σ over blocks of  iterations · ⌈items in a batch / workers⌉ · seconds an item

    Args:
        items: of the problem.
        workers: how many items are worked on at once.
        checks: the largest of their ``seconds`` counts, since blocks differ in cost.
    """
    measured = [check.seconds for check in checks if check.seconds is not None]
    if not measured:
        return None
    rounds = 0
    for block in study.blocks:
        batches = 1 if block.batch_size is None else math.ceil(items / block.batch_size)
        rounds += block.iterations * math.ceil(items / batches / workers)
    return rounds * max(measured)


def _announced(checks: Iterator[Check], console: Console) -> Iterator[Check]:
    number = 0
    while True:
        number += 1
        text = f"check {number} is being measured ..."
        patience = threading.Timer(_ANNOUNCE_AFTER, console.print, [text])
        if not console.is_terminal:
            patience.start()
        try:
            with console.status(text):
                check = next(checks, None)
        finally:
            patience.cancel()
        if check is None:
            return
        yield check


def _grid(lines: list[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in lines:
        grid.add_row(Text(f"  {name}", style="dim"), Text(value))
    return grid


def _table(checks: list[Check], *, texts: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("check", "value", "limit", "", *([""] if texts else [])):
        table.add_column(name)
    for check in checks:
        verdict = Text("ok", style="green") if check.ok else Text("NOT OK", style="bold red")
        text = [Text(check.text, style="dim" if check.ok else "red")] if texts else []
        table.add_row(Text(check.name), Text(check.value), Text(check.limit), verdict, *text)
    return table
