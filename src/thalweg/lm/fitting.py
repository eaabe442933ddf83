"""Which JSON values an answer may have: what can be kept and sent on, and what fits a schema.

::

    a value      text without lone surrogates, integers that compare with floats, not too deep, not too large
    integer      an int: 1.0 is none, as nothing that counts would take it
    multipleOf   of decimal numbers as they are written: 0.3 is a multiple of 0.1

Searches go by the same (:mod:`thalweg.search.values`, :mod:`thalweg.search.checking`), so what is taken here is not
refused there, where nobody could ask for it again.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from importlib import import_module
from typing import Any

DEEPEST = 100  # as deep as values are anywhere in Thalweg
LARGEST = 1_000_000  # values in one
BITS = 1023  # of an integer


def value_fault(value: Any) -> str | None:
    """Why a JSON value cannot be kept or sent on, in words for people and models; None if it can.

    Args:
        value: as a reader of JSON gives it; numbers finite.

    Example:
        >>> from thalweg.lm.fitting import value_fault
        >>> value_fault({"text": "Good."}), value_fault({"text": "Good \\ud83d."})
        (None, "the text 'Good \\\\ud83d.' has half a character (a lone surrogate)")
    """
    left, count = [(value, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if count > LARGEST:
            return f"there are more than {LARGEST:,} values in it"
        if isinstance(value, list | dict) and depth >= DEEPEST:
            return f"lists and objects are nested more than {DEEPEST} deep"
        if isinstance(value, dict):
            left += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            left += [(item, depth + 1) for item in value]
        for text in value if isinstance(value, dict) else (value,):
            if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
                return f"the text {text[:100]!a} has half a character (a lone surrogate)"
        if isinstance(value, int) and value.bit_length() > BITS:
            return f"an integer of {value.bit_length()} bits is too large, at most {BITS} are possible"
    return None


@functools.cache
def validator_class() -> Any:
    """jsonschema's validator of draft 2020-12, with integers and multiples as above.

    Raises:
        ImportError: jsonschema is not installed.
    """
    library = import_module("jsonschema")
    base = library.Draft202012Validator

    def integer(checker: Any, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def multiple_of(validator: Any, unit: Any, value: Any, schema: Any) -> Any:
        number = validator.is_type(value, "number")
        if number and Fraction(repr(value)) % Fraction(repr(unit)):  # as written: 0.3 is a multiple of 0.1
            yield library.ValidationError(f"{value!r} is not a multiple of {unit!r}")

    types = base.TYPE_CHECKER.redefine("integer", integer)
    return library.validators.extend(base, {"multipleOf": multiple_of}, type_checker=types)
