"""What happens to a gradient before a rule, and to a model after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.transforms.base import ArrayFunction, Transform
from thalweg.transforms.base import build_transform as _build_transform
from thalweg.transforms.box import bounds
from thalweg.transforms.chaining import chain, describe
from thalweg.transforms.clipping import clip_norm, clip_value
from thalweg.transforms.masking import mask
from thalweg.transforms.scaling import normalize
from thalweg.transforms.smoothing import smooth

__all__ = [
    "ArrayFunction",
    "Transform",
    "bounds",
    "build",
    "chain",
    "clip_norm",
    "clip_value",
    "describe",
    "mask",
    "normalize",
    "registry",
    "smooth",
]

registry: dict[str, type[Transform]] = {
    cls.kind: cls for cls in (bounds, mask, smooth, normalize, clip_value, clip_norm)
}
"""The kinds of transform by the name that study files and saved state use. Add your own before building."""


def build(
    spec: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, arrays: Mapping[str, np.ndarray] | None = None
) -> Transform:
    """A transform from its table, or a chain from a list of tables.

    Args:
        spec: for instance ``{"kind": "bounds", "lower": 1400}``, or a list of such tables, first applied
            first.
        arrays: the arrays that a table may name, for instance ``{"mask": ...}``.

    Returns:
        The transform.

    Raises:
        HyperparameterError: an unknown kind, parameter or array (naming the nearest), a missing parameter, a
            value out of range, or a user's own callable, which must be handed in again.

    Example:
        >>> from thalweg.transforms import build
        >>> build([{"kind": "normalize"}, {"kind": "clip_value", "limit": 0.5}])
        chain(normalize(), clip_value(limit=0.5))
    """
    if not isinstance(spec, Mapping | list | tuple):
        raise HyperparameterError(f"{spec!r} is no transform; give a table such as {{kind = 'bounds', lower = 0}}")
    if not isinstance(spec, Mapping):
        return chain(*(build(table, arrays=arrays) for table in spec))
    if "callable" in spec:
        raise HyperparameterError(
            f"{spec['callable']} is a callable of your own, which is never saved; hand it in again",
            **dict(spec),
        )
    if spec.get("kind") == "chain" and set(spec) == {"kind", "steps"}:
        return build(spec["steps"], arrays=arrays)
    return _build_transform(spec, registry, arrays or {})
