"""What happens to a gradient before a rule, and to a model after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.transforms.balls import l1_ball, l2_ball
from thalweg.transforms.base import ArrayFunction, ParameterTransform, Transform, TreeTransform
from thalweg.transforms.box import bounds, nonnegative
from thalweg.transforms.building import build_transform as _build_transform
from thalweg.transforms.chaining import chain, describe
from thalweg.transforms.clipping import clip_norm, clip_value
from thalweg.transforms.clipping_adaptively import clip_adaptive
from thalweg.transforms.clipping_together import clip_global_norm
from thalweg.transforms.decaying import add_decay
from thalweg.transforms.masking import mask
from thalweg.transforms.scaling import normalize, scale
from thalweg.transforms.simplices import simplex
from thalweg.transforms.smoothing import smooth

__all__ = [
    "ArrayFunction",
    "ParameterTransform",
    "Transform",
    "TreeTransform",
    "add_decay",
    "bounds",
    "build",
    "chain",
    "clip_adaptive",
    "clip_global_norm",
    "clip_norm",
    "clip_value",
    "describe",
    "l1_ball",
    "l2_ball",
    "mask",
    "nonnegative",
    "normalize",
    "registry",
    "scale",
    "simplex",
    "smooth",
]

registry: dict[str, type[Transform] | type[TreeTransform] | type[ParameterTransform]] = {
    cls.kind: cls
    for cls in (
        *(mask, smooth, scale, normalize, clip_value, clip_norm, clip_global_norm, clip_adaptive, add_decay),
        *(bounds, nonnegative, simplex, l1_ball, l2_ball),
    )
}
"""The kinds of transform by the name that study files and saved state use. Add your own before building."""


def build(
    spec: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, arrays: Mapping[str, np.ndarray] | None = None
) -> Any:
    """A transform from its table, or a chain from a list of tables.

    Args:
        spec: for instance ``{"kind": "bounds", "lower": 1400}``, or a list of such tables, first applied
            first.
        arrays: the arrays that a table may name, for instance ``{"mask": ...}``.

    Returns:
        The transform: a :class:`Transform`, or, from a table of its kind, a :class:`TreeTransform` or a
        :class:`ParameterTransform`.

    Raises:
        HyperparameterError: an unknown kind, parameter or array (naming the nearest), a missing parameter, a
            value out of range, a list that holds what cannot be chained, or a user's own callable, which must be
            handed in again.

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
