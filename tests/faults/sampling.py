"""How much of the suite runs: a seeded sample by default, all of it with THALWEG_FAULTS=all (``make faults``)."""

import os
import random

ALL = os.environ.get("THALWEG_FAULTS") == "all"


def sample(everything, count, seed):
    """All of it, or a seeded sample, in order."""
    everything = list(everything)
    if ALL or len(everything) <= count:
        return everything
    return sorted(random.Random(seed).sample(everything, count))
