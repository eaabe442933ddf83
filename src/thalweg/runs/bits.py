"""What decides the last bits of a run besides its study: versions and machine code, of each process that worked on it.

They are in the history, with the events that say where a process began, and in each checkpoint. A run must be able to
go on on another machine, so what differs is told, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from thalweg.runs.record import BEGINNINGS, RunRecord
from thalweg.runtime.identity import ALWAYS, FEATURES, differences

IDENTITY = "identity"
"""The name under which :func:`thalweg.runtime.identity.identity` is kept, with versions of what a search uses."""
_SHOWN = 160  # characters of one difference


def other_bits(before: Any, now: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """What is to be told where a process goes on with what another one has computed.

    Args:
        before: the identity of that process, as a checkpoint has it; nothing is told if it has none.
        now: the identity of this one.

    Returns:
        The text, and what differs, a line each; None if nothing does.

    Example:
        >>> from thalweg.runs.bits import other_bits
        >>> other_bits({"numpy": "2.1"}, {"numpy": "2.2"})[1]
        ['numpy is 2.2 here and 2.1 there']
        >>> other_bits({"numpy": "2.1"}, {"numpy": "2.1"}) or other_bits(None, {"numpy": "2.1"})
    """
    if not (known := _texts(before)):
        return None
    lines = differences(now, known)
    if not lines:
        return None
    shown = "; ".join(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..." for line in lines)
    return (
        f"what decides the last bits is not what it was when the checkpoint was made (there): {shown}. The iterations "
        "from here on may have other bits than without the break; for the same ones, go on with what it was begun with"
    ), lines


def computed_with(record: RunRecord) -> dict[str, list[str]]:
    """With what a run was computed, by name: one value, or more if it went on with others, in order."""
    found = [
        identity
        for event in record.events
        if event["kind"] in BEGINNINGS and isinstance(event["details"], dict)
        if (identity := _texts(event["details"].get(IDENTITY)))
    ]
    names = dict.fromkeys(name for identity in found for name in identity)
    values = {name: [i.get(name, "unknown") for i in found if name in i or name in ALWAYS] for name in names}
    return {name: [value for value, _ in groupby(those)] for name, those in values.items()}


def differing(runs: list[dict[str, list[str]]]) -> dict[str, list[list[str]]]:
    """Of what runs were computed with, what is not the same in all of them and at all times; of features of processors
    those that not every process had.

    Args:
        runs: of each what :func:`computed_with` says.

    Example:
        >>> from thalweg.runs.bits import differing
        >>> one = {"numpy": ["2.1"], "numba": ["0.60"], "CPU features": ["+avx,+fma"]}
        >>> other = {"numpy": ["2.1"], "numba": ["0.60", "0.61"], "CPU features": ["+fma", "+avx512f,+fma"]}
        >>> differing([one, other])
        {'numba': [['0.60'], ['0.60', '0.61']], 'CPU features': [['+avx'], ['none', '+avx512f']]}
    """
    found = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        values = [run.get(name, []) for run in runs]
        every = {value for run in values for value in run}
        if len(every) < 2:
            continue
        if name in FEATURES:
            common = frozenset.intersection(*(frozenset(value.split(",")) for value in every))
            values = [[_without(value, common) for value in run] for run in values]
        found[name] = values
    return found


def compiled_for(found: Any) -> list[tuple[str, str]]:
    """Of an identity what code was compiled for: name and value each, of features those that there are.

    Example:
        >>> from thalweg.runs.bits import compiled_for
        >>> compiled_for({"numpy": "2.1", "CPU": "haswell", "CPU features": "+avx2,-avx512f,+fma"})
        [('code for', 'haswell'), ('CPU features', '+avx2, +fma')]
    """
    known = _texts(found)
    lines = [("code for", known["CPU"])] if known.get("CPU") else []
    return lines + [
        (name, ", ".join(feature for feature in known[name].split(",") if not feature.startswith("-")))
        for name in sorted(FEATURES)
        if known.get(name)
    ]


def _without(features: str, common: frozenset[str]) -> str:
    return ",".join(name for name in features.split(",") if name not in common and not name.startswith("-")) or "none"


def _texts(found: Any) -> dict[str, str]:
    """What may be somebody else's."""
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
