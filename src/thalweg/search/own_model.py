"""The model that a rewriting search has of its own: its option ``lm``, the arguments of a :class:`LanguageModel`."""

from __future__ import annotations

import inspect
from typing import Any

from thalweg.errors import SearchError
from thalweg.lm import LanguageModel
from thalweg.search.values import Json

_DECISIVE = ("model", "seed", "limit_key", "constrain", "extra")  # the rest the search itself says with each request
_OBJECTS = ("spending", "sleep")  # what no table can hold


def _arguments() -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(LanguageModel).parameters
    return {name: one for name, one in parameters.items() if name not in _OBJECTS}


def own_model(lm: Any, **more: Any) -> LanguageModel:
    """The model of the option ``lm``.

    Args:
        lm: the arguments of a :class:`LanguageModel <thalweg.lm.LanguageModel>`.
        more: further ones, in the place of those in it.

    Raises:
        SearchError: it has keys that are none of these arguments, or lacks some. Their values are not shown, as one may
            be a secret that does not belong there.
        LanguageModelError: an argument is wrong.

    Example:
        >>> from thalweg.search.own_model import own_model
        >>> own_model({"base_url": "http://127.0.0.1:8080/v1", "model": "m", "api_key": "sk-..."})
        Traceback (most recent call last):
        thalweg.errors.SearchError: lm has api_key, which a language model does not take; it takes base_url, model, ...
    """
    if not isinstance(lm, dict):
        raise SearchError(f"lm is a {type(lm).__name__}; give a table such as {{base_url = ..., model = ...}}.")
    known = _arguments()
    strange = [name for name in lm if name not in known]
    missing = [name for name, one in known.items() if one.default is one.empty and name not in lm]
    if strange:
        raise SearchError(
            f"lm has {', '.join(strange)}, which a language model does not take; it takes {', '.join(known)}. A key is "
            "in the environment variable that api_key_env names."
        )
    if missing:
        raise SearchError(f"lm has no {', '.join(missing)}; give it, so that there is a model to be asked.")
    try:
        return LanguageModel(**{**lm, **more})
    except TypeError as error:
        raise SearchError(f"lm has a value of a wrong kind: {error}.") from error


def decisive(lm: dict[str, Any] | None) -> dict[str, Json] | None:
    """What of the option ``lm`` decides answers, with the defaults of what it leaves out: not how the server is reached
    and paid, nor where answers are kept.

    Example:
        >>> from thalweg.search.own_model import decisive
        >>> decisive({"base_url": "http://127.0.0.1:8080/v1", "model": "m", "timeout": 9.0})
        {'model': 'm', 'seed': 0, 'limit_key': 'max_tokens', 'constrain': True, 'extra': None}
    """
    if lm is None:
        return None
    known = _arguments()
    return {name: lm.get(name, known[name].default) for name in _DECISIVE}
