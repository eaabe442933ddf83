"""How much of the suite runs: a seeded sample by default, all of it with THALWEG_TESTS=all (``make test-all``)."""

import os
import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

ALL = os.environ.get("THALWEG_TESTS") == "all"


def sample(everything: Iterable[T], count: int, seed: int | str) -> Sequence[T]:
    """All of it, or a seeded sample, in order: for the cases of ``pytest.mark.parametrize``, or inside of a test."""
    cases = list(everything)
    if ALL or len(cases) <= count:
        return cases
    chosen = random.Random(seed).sample(range(len(cases)), count)
    return [cases[index] for index in sorted(chosen)]
