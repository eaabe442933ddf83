"""New texts out of old ones, without a model: what a rewriting search falls back to.

A text is a row of sentences; if it is a single one, of words. One is dropped, two change places, or one is taken over
from another text that was tried.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_SENTENCE = re.compile(r"\S.*?(?:[.!?:]+(?=\s|$)|\n|$)", re.DOTALL)


def recombined(rng: np.random.Generator, text: str, others: Sequence[str], *, finely: bool = False) -> str:
    """A text that is made of others.

    Args:
        rng: where the choices come from.
        text: what is changed.
        others: what sentences are taken over from.
        finely: whether it is a row of words in any case.

    Example:
        >>> import numpy as np
        >>> from thalweg.search.recombining import recombined
        >>> recombined(np.random.default_rng(0), "Be short. Say Yes or No.", ["Think first. Be kind."])
        'Say Yes or No. Be short.'
    """
    own = text.split() if finely else _SENTENCE.findall(text)
    foreign = [p for other in others for p in (other.split() if finely else _SENTENCE.findall(other)) if p not in own]
    parts = own if len(own) > 1 or foreign else text.split()
    moves = ["take"] * bool(foreign) * 2 + ["drop"] * (len(parts) > 1) + ["swap"] * (len(parts) > 1)
    if not moves:
        return text
    move = moves[int(rng.integers(len(moves)))]
    changed = [part.strip() for part in parts]
    if move == "take":
        changed.insert(int(rng.integers(len(changed) + 1)), foreign[int(rng.integers(len(foreign)))].strip())
    elif move == "drop":
        del changed[int(rng.integers(len(changed)))]
    else:
        one, other = (int(index) for index in rng.permutation(len(changed))[:2])
        changed[one], changed[other] = changed[other], changed[one]
    return " ".join(part for part in changed if part)
