"""What decides the rewards of a run: kept with its scores, so that none is compared with a reward of something else.

::

    as the checkpoint has it         the search goes on
    the user has named each change   it begins anew: what was scored before stays charged, and is compared with nothing
    anything else has changed        refused, with what it is

A change that was agreed to once needs no name again: a run that was killed before its next checkpoint goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.errors import RunError, SearchError
from thalweg.runs.differences import different, is_inside, listed
from thalweg.runs.history import History
from thalweg.runs.resuming import Resumption
from thalweg.search.values import copy_json, digest_json

DECIDED = "rewards_decided_by"
"""The fact that holds what decides the rewards of the process that searches, or did last."""

AGREED = "rewards_agreed_to"
"""The fact that holds what decides rewards of the last process that went on with the run, though it came to nothing: it
is there before the study in the folder is a changed one, so that no more than the user has named is ever taken."""

_DATA = "digest of the data"


def deciding(problem: Any, table: dict[str, Any], seed: int) -> dict[str, Any]:
    """What decides the rewards of a problem, as JSON.

    Args:
        problem: a :class:`~thalweg.runs.RewardProblem`.
        table: the ``[problem]`` table.
        seed: the study's.
    """
    return {"problem": copy_json(problem.decisive(table)), "seed": seed, _DATA: problem.fingerprint()}


def fingerprint_of(decided: Mapping[str, Any]) -> str:
    """A digest of :func:`deciding`.

    Raises:
        RunError: it is none; a history may be somebody else's.
    """
    try:
        return digest_json([decided["problem"], decided["seed"], decided[_DATA]])
    except (LookupError, TypeError, SearchError) as error:
        raise RunError(f"The history does not say what its rewards were decided by: {error!r}.") from error


def key_of(fingerprint: str, values: Mapping[str, Any]) -> str:
    """What the results of a candidate are found by.

    Args:
        fingerprint: of what decides rewards.
        values: the candidate's, by variable name.
    """
    return digest_json({"problem": fingerprint, "values": values})


def changes(found: Resumption, now: dict[str, Any], data_keys: Sequence[str] = ("data",)) -> str | None:
    """What decides rewards otherwise than when the checkpoint's scores were made, as lines; None if nothing does.

    Args:
        found: what the run goes on from.
        now: what decides them now.
        data_keys: the keys of ``[problem]`` that name a change of the data.

    Raises:
        RunError: the user has not named each of them; or nothing would be scored with it; or the checkpoint does not
            say what its scores were decided by.
    """
    ledger = found.meta.get("ledger")
    if ledger is None:
        return None
    before = ledger.get("decided_by") if isinstance(ledger, dict) else None
    if not isinstance(before, dict):
        raise RunError(
            f"The checkpoint of {found.folder.path} does not say what its scores were decided by, so nothing can be "
            "compared with them: it is of another version of Thalweg, or damaged. Begin a new run."
        )
    keys = different(before, now)
    if not keys:
        return None
    lines = listed(before, now, keys)
    agreed = History(found.folder.history).facts().get(AGREED)
    known = different(agreed, now) if isinstance(agreed, dict) else keys
    unnamed = [key for key in keys if key in known and not _is_named(key, found.named, data_keys)]
    if unnamed:
        named = " ".join(f"--set {f'problem.{data_keys[0]}' if key == _DATA else key}=..." for key in unnamed[:3])
        raise RunError(
            f"What decides the rewards of {found.folder.path} has changed since its candidates were scored, so their "
            f"scores cannot be compared with new ones:{lines}\nPut it back as it was, or begin a new run. Or name what "
            f"has changed ({named}): then the search begins anew, and only keeps what it knows.",
            differences=keys,
        )
    total = found.study.iterations
    if found.position.iteration >= total:
        last = len(found.study.blocks) - 1
        raise RunError(
            f"What decides the rewards of {found.folder.path} has changed, and all {total} iterations are made, so "
            f"nothing would be scored anew:{lines}\nGive it more: --set blocks.{last}.iterations="
            f"{2 * found.study.blocks[last].iterations}",
            differences=keys,
        )
    return lines


def _is_named(key: str, named: Sequence[str], data_keys: Sequence[str]) -> bool:
    """Whether the user has named a change: by its key, a table around it or an entry in it; by the same key of another
    table of the problem, which may be the default of many; or, of the data, by a key that the problem has for it."""
    if key == _DATA:
        return any(_meet(name, f"problem.{one}") for name in named for one in data_keys)
    last = key.rpartition(".")[2]
    return any(_meet(name, key) or (name.startswith("problem.") and name.rpartition(".")[2] == last) for name in named)


def _meet(one: str, other: str) -> bool:
    return is_inside(one, other) or is_inside(other, one)
