"""AdamW: Adam, and a weight decay that does not pass through its moments. ::

    θ' = (1 − η·λ)·θ − η·m̂ / (√v̂ + ε)

The text is Adam's with decoupled decay around it. In the paper λ is multiplied by a schedule's multiplier alone;
here, as in PyTorch, Keras and Optax, by the learning rate.
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.rules.adam import adam
from thalweg.rules.decaying import decayed

_decoupled = decayed(adam).form(decay="decoupled").with_defaults(weight_decay=0.01)

adamw = replace(
    _decoupled,
    name="adamw",
    doc=__doc__,
    options={**_decoupled.options, "decay": ("decoupled", "coupled")},
    decay="decoupled",
    conventions={
        "torch": {},
        "keras": {"epsilon_form": "hat", "epsilon": 1e-7, "weight_decay": 0.004},
        "optax": {"weight_decay": 1e-4},
    },
    source="I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019, algorithm 2",
)
