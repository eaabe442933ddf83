"""What is said of a run that goes on: from where, what is given up for that, and what is other than it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.checkpoints import CheckpointStore
from thalweg.runs.bits import IDENTITY, other_bits
from thalweg.runs.machine import libraries
from thalweg.runs.resuming import Resumption
from thalweg.runs.telling import some
from thalweg.runtime.identity import identity


def lines_of(found: Resumption, inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lines (name, value) of the plan of a run that would go on.

    Args:
        found: what it would go on from, as it is after the problem and the optimizer were tried with it.
        inputs: see :meth:`Problem.inputs`.
    """
    done = found.position.iteration
    lines = [("goes on", f"from iteration {done}; at most {found.study.iterations - done} are left")]
    lines += [("given up", text) for text in _given_up(found)]
    if found.anew is not None:
        text = "what decides rewards has changed, so the search begins anew, and compares nothing with scores before:"
        lines.append(("note", f"{text}{found.anew}"))
    now = {IDENTITY: {**identity(), **libraries(found.study)}}
    notes = [*found.notes, *what_is_other(found, inputs, now)]
    return lines + [("note", text) for text in notes]


def _given_up(found: Resumption) -> list[str]:
    """What of the run would be no more."""
    given_up = [again(found, found.after)] if found.after else []
    if found.newest is not None:
        newer = sum(number > found.newest for number in CheckpointStore(found.folder.checkpoints).generations())
        given_up += [f"{some(newer, 'checkpoint')} after that" if found.meta else some(newer, "checkpoint")] * (
            newer > 0
        )
    return given_up


def from_where(found: Resumption, lost: int) -> str:
    """Where a run goes on, and what is done again, in words.

    Args:
        found: what it goes on from.
        lost: how many iterations after that were taken out of its history.
    """
    where = f"from iteration {found.position.iteration}" if found.meta else "from the beginning"
    return f"{where}; {again(found, lost)}" if lost else where


def again(found: Resumption, lost: int) -> str:
    """What becomes of iterations that are given up, in words; the arguments are those of :func:`from_where`."""
    after = " after its checkpoint" if found.meta else ""
    are = "is" if lost == 1 else "are"
    text = "computed again"
    if found.study.problem_class.rewarded:  # evaluations that ended before are in the history, and cost nothing more
        text = "gone through again, with the results that are known"
    return f"{some(lost, 'iteration')}{after} {are} {text}"


def what_is_other(found: Resumption, inputs: Mapping[str, str], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What decides the bits from here on and was something else until here: texts, and details of each.

    Args:
        found: what the run goes on from.
        inputs: see :meth:`Problem.inputs`.
        now: what decides the bits of this process, as :data:`thalweg.runs.bits.IDENTITY`.
    """
    warnings: dict[str, dict[str, Any]] = {
        f"{key}: what is there is not what the iterations before were made with": {}
        for key in found.other_inputs(inputs)
    }
    if (other := other_bits(found.meta.get(IDENTITY), now[IDENTITY])) is not None:
        text, lines = other
        warnings[text] = {"differences": lines}
    return warnings
