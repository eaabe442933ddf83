"""Where a run stands in the blocks of a study that may have been changed, and what is refused for that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from thalweg.errors import RunError
from thalweg.runs.position import Position
from thalweg.runs.settings import GenericBlock, OutputSettings
from thalweg.runs.telling import some


def position_in(meta: Mapping[str, Any], blocks: tuple[GenericBlock, ...], path: Path) -> Position:
    """Where a checkpoint was taken, in blocks that have such a place.

    Args:
        meta: the checkpoint's; empty for the beginning.
        blocks: of the study as it is to be.
        path: the run, for messages.

    Raises:
        RunError: they have no such place.
    """
    if not meta:
        return Position()
    position = Position.from_meta(meta)
    number = position.block + 1
    if number > len(blocks):
        raise RunError(f"The run {path} is in block {number}, and the study has {some(len(blocks), 'block')}.")
    before = sum(block.iterations for block in blocks[: position.block]) + position.block_iteration
    if before != position.iteration:
        raise RunError(
            f"The run {path} has made {position.iteration} iterations, and the study has {before} up to there: blocks "
            f"before block {number}, in which it is, cannot change any more."
        )
    if position.block_iteration > blocks[position.block].iterations:
        raise RunError(
            f"The run {path} has made {position.block_iteration} iterations of block {number} already; it "
            f"cannot have {blocks[position.block].iterations}."
        )
    return position


def naming(error: RunError, path: Path, iteration: int | None) -> RunError:
    """A refusal that names the checkpoint from which the run can go on all the same.

    Args:
        error: the refusal.
        path: the run.
        iteration: that of the checkpoint; None if there is none.
    """
    if iteration is None:
        return error
    command = f"thalweg resume {quote(str(path))} --iteration {iteration} --set ..."
    return RunError(f"{error} To go on from before that, and make what came after it anew: {command}", **error.details)


def refuse_lost_iterations(
    path: Path, history: Path, made: int, known: int, iteration: int | None, *, changes: bool
) -> None:
    """Refuse to go on from a checkpoint of iterations that the history has lost: what is older may be worth less than
    what is lost, so only the user gives that up.

    Args:
        path: the run, for the message.
        history: its history.
        made: how many it has of those iterations.
        known: how many the checkpoint knows.
        iteration: of the newest checkpoint that the history has all iterations of; None if there is none.
        changes: whether the user has named any.

    Raises:
        RunError: it has lost some.
    """
    if made == known:
        return
    way = (
        f"go on from iteration {iteration}, the newest checkpoint that the history covers, and give up what came after"
    )
    if iteration is None:
        way = "begin again, since the history covers no checkpoint, and give up what there is"
    raise RunError(
        f"The history of {path} has {made} of the {known} iterations that its checkpoint knows: {history} was replaced "
        f"or damaged, or copied while the run went on, or without {history.name}-wal. Copy the whole folder again when "
        "no process works on it, or restore the history from a copy. Or "
        f"{way}: thalweg resume {quote(str(path))} --iteration {iteration or 0}{' --set ...' if changes else ''}"
    )


def refuse_finished(path: Path, blocks: tuple[GenericBlock, ...], position: Position) -> None:
    """Refuse to go on where all is made.

    Raises:
        RunError: it is.
    """
    if position.iteration == sum(block.iterations for block in blocks):
        last = len(blocks) - 1
        raise RunError(
            f"The run {path} has finished: all {position.iteration} iterations are made. To go on, give it more: "
            f"--set blocks.{last}.iterations={2 * blocks[last].iterations}"
        )


def refuse_lost_checkpoints(path: Path, made: int, status: str, began: Mapping[str, Any], had: bool | None) -> None:
    """Where there must have been a checkpoint and is none, beginning again would destroy what there is.

    Args:
        path: the run, for the message.
        made: its iterations.
        status: how it says that it ended.
        began: the study that it was of, not what it is to become: it says how often a checkpoint was made.
        had: whether there was one; None where the history does not say, which is of an earlier version.

    Raises:
        RunError: there must have been one.
    """
    output = began.get("output")
    every = output.get("checkpoint_every") if isinstance(output, dict) else None
    if type(every) is not int:
        every = OutputSettings().checkpoint_every
    # One is handed over after so many iterations, and is on the disk before the next one is handed over.
    likely = made > 2 * every or status == "finished"
    if made and (likely if had is None else had):
        raise RunError(
            f"The run {path} has made {made} iterations, and there is no checkpoint in it to go on from: they were "
            "removed. Restore the folder checkpoints from a copy, or begin a new run in another folder; or give up "
            f"what there is, and begin again here: thalweg resume {quote(str(path))} --iteration 0"
        )
