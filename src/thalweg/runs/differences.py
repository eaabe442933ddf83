"""What differs between two studies, and what of it may change while a run goes on: what the user has named, where the
work is done, and nothing that is past.

A study is compared as a document: values by dotted path, such as ``blocks.0.optimizer.learning_rate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.runs.position import Position
from thalweg.runs.toml import dumps, parse

PLACING = frozenset(
    f"runtime.{name}"
    for name in (
        *("kind", "threads", "scheduler", "workers"),
        *("ca_file", "cert_file", "key_file", "patience", "retries"),
    )
)
"""What may change without being named: the bits do not depend on it."""

_NOTHING = object()
_SHOWN = 30
"""So many differences are listed."""


def different(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The dotted paths in which two documents differ, sorted.

    Example:
        >>> from thalweg.runs.differences import different
        >>> different({"seed": 1, "blocks": [{"iterations": 3}]}, {"seed": 1, "blocks": [{"iterations": 4}]})
        ['blocks.0.iterations']
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [key for key in sorted({*old, *new}) if not same(old.get(key, _NOTHING), new.get(key, _NOTHING))]


def is_inside(key: str, table: str) -> bool:
    """Whether a dotted path is that of a table, or of something in it.

    Example:
        >>> from thalweg.runs.differences import is_inside
        >>> is_inside("problem.data", "problem"), is_inside("problem.data_2", "problem.data")
        (True, False)
    """
    return key == table or key.startswith(f"{table}.")


def same(a: Any, b: Any) -> bool:
    """Whether two values of a document are the same one; NaN is the same as NaN."""
    return bool(a == b) or repr(a) == repr(b)


def refuse_unnamed(before: dict[str, Any], after: dict[str, Any], named: Sequence[str], what: str) -> tuple[str, ...]:
    """Refuse changes of a study that the user has not named.

    Args:
        before: the study that the run is of.
        after: the one that it is to go on with.
        named: the dotted paths of what may change, or of tables in which everything may.
        what: how the two come to differ, for the message.

    Returns:
        The changes that need no name, since they say where the work is done.

    Raises:
        RunError: there are others; all of them are listed.
    """
    unnamed = [key for key in different(before, after) if not any(is_inside(key, n) for n in named)]
    moved = tuple(key for key in unnamed if key in PLACING)
    unnamed = [key for key in unnamed if key not in PLACING]
    if unnamed:
        lines = listed(before, after, unnamed)
        raise RunError(
            f"{what}; a run goes on with the study that it began with:{lines}\nName what is to change (--set "
            f"{unnamed[0]:.200}=...), or begin a new run.",
            differences=unnamed,
        )
    return moved


def refuse_past(path: Path, before: dict[str, Any], after: dict[str, Any], position: Position) -> None:
    """Refuse changes of what is past: of blocks that are done, of what such a block has set otherwise, and of the seed,
    with which batches and data were drawn.

    Args:
        path: the run, for the message.
        before: the study that the run is of.
        after: the one that it is to go on with; as many iterations up to the position.
        position: where the run is.

    Raises:
        RunError: there is one.
    """
    if position.selection is None:  # no block has begun
        return
    seeds = [document.get("seed", 0) for document in (before, after)]
    if seeds[0] != seeds[1]:
        raise RunError(
            f"The run {path} has seed {seeds[0]}, and the study now {seeds[1]}: batches, and data that are simulated, "
            "were drawn with the first, and neither would give the whole run again. Put it back, or begin a new run.",
            differences=["seed"],
        )
    here, blocks = position.block, after["blocks"]
    done = position.block_iteration >= blocks[here]["iterations"]
    for key in different(before, after):
        table, *rest = key.split(".")
        if table == "blocks" and len(rest) > 1 and rest[0].isdecimal():
            index, name = int(rest[0]), rest[1]
            begun = index == here and (name == "reset_optimizer" or (done and name != "iterations"))
            if name != "name" and (index < here or begun):
                raise RunError(
                    f"{key} cannot change any more: the run {path} is in iteration {position.block_iteration} of block "
                    f"{here + 1} (blocks.{here}), so that is past.",
                    differences=[key],
                )
        if table == "optimizer" and rest:
            setting = [n for n in range(here + 1) if rest[0] in blocks[n].get("optimizer", {})]
            if setting:
                raise RunError(
                    f"{key} would have no effect: block {setting[-1] + 1} has set {rest[0]} since. Change "
                    f"blocks.{here}.optimizer.{rest[0]} instead.",
                    differences=[key],
                )


def settings_at(document: dict[str, Any], position: Position) -> dict[str, Any]:
    """The ``[optimizer]`` table as it holds at a position: each block that has begun may have set something.

    Example:
        >>> from thalweg.runs.differences import settings_at
        >>> from thalweg.runs.position import Position
        >>> document = {"optimizer": {"rate": 1.0}, "blocks": [{}, {"optimizer": {"rate": 0.5}}]}
        >>> [settings_at(document, Position(1, block, 1, {})) for block in (0, 1)]
        [{'rate': 1.0}, {'rate': 0.5}]
    """
    begun = 0 if position.selection is None else position.block + 1
    table = dict(document["optimizer"])
    for block in document["blocks"][:begun]:
        table |= block.get("optimizer", {})
    return table


def settings_text(document: dict[str, Any]) -> str:
    """What of a study decides the hyperparameters, as TOML: a checkpoint says with what it was made, since the study in
    the folder may be a later one."""
    blocks = [{"optimizer": block["optimizer"]} if block.get("optimizer") else {} for block in document["blocks"]]
    return dumps({"optimizer": document["optimizer"], "blocks": blocks})


def settings_from(text: Any) -> dict[str, Any]:
    """The inverse of :func:`settings_text`.

    Raises:
        RunError: it is none.
    """
    try:
        found = parse(text)
        blocks = found["blocks"]
        good = isinstance(found["optimizer"], dict) and isinstance(blocks, list)
        if good and all(isinstance(b, dict) and isinstance(b.get("optimizer", {}), dict) for b in blocks):
            return found
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    raise RunError(f"A checkpoint does not say which study it was made with, but {text!r:.80}.")


def listed(before: dict[str, Any], after: dict[str, Any], keys: Sequence[str]) -> str:
    """What two documents have in some places, as lines of a message.

    Example:
        >>> from thalweg.runs.differences import listed
        >>> print(listed({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, ["b.c"]))
        <BLANKLINE>
          - b.c: 2 → 3
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    lines = [f"\n  - {key}: {_shown(old, key)} → {_shown(new, key)}" for key in keys[:_SHOWN]]
    return "".join(lines) + (f"\n  - and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def _shown(leaves: dict[str, Any], key: str) -> str:
    return f"{leaves[key]!r:.200}" if key in leaves else "not there"


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """The values of a document by dotted path."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, entry in items:
        yield from _leaves(entry, f"{path}.{key}" if path else str(key))
