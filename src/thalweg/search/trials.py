"""What goes out to be scored, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from thalweg.search.candidates import Candidate
from thalweg.search.rewards import SampleReward
from thalweg.search.values import copy_json


@dataclass(frozen=True)
class Trial:
    """A candidate that is to be scored.

    Args:
        candidate: what is tried.
        seen: the samples that are behind it already.
        again: whether the engine was told of it before.
        refused: why the variables refuse it, if they do: it has failed, and is not scored.
    """

    candidate: Candidate
    seen: frozenset[int]
    again: bool
    refused: str | None = None

    def with_values(self, values: Mapping[str, Any]) -> Trial:
        """The same with a copy of these values, in their order."""
        return replace(self, candidate=replace(self.candidate, values=copy_json(dict(values))))


@dataclass(frozen=True)
class Scored:
    """What came of a candidate.

    Args:
        number: the candidate's.
        rewards: by sample.
        failed: by sample, why there is no reward.
        again: as :class:`Trial` had it.
    """

    number: int
    rewards: dict[int, SampleReward]
    failed: dict[int, str]
    again: bool


def trial_state(trial: Trial) -> dict[str, Any]:
    """A trial as JSON."""
    c = trial.candidate
    entry = {"number": c.number, "values": copy_json(c.values), "origin": c.origin, "resource": c.resource}
    refused = {} if trial.refused is None else {"refused": trial.refused}
    return {**entry, "seen": sorted(trial.seen), "again": trial.again, **refused}


def trial_of(entry: Mapping[str, Any]) -> Trial:
    """The trial that :func:`trial_state` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    resource = float(entry["resource"])
    if not 0.0 < resource <= 1.0:
        raise ValueError(f"the share of the samples is {resource}")
    candidate = Candidate(int(entry["number"]), copy_json(entry["values"]), str(entry["origin"]), resource)
    refused = str(entry["refused"]) if "refused" in entry else None
    return Trial(candidate, frozenset(int(item) for item in entry["seen"]), bool(entry["again"]), refused)
