"""Whether a value fits a schema, and whether a schema is one."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from thalweg.errors import MissingExtraError, SchemaError, ValueMismatchError
from thalweg.search.values import written_path


def check_schema(schema: Any) -> None:
    """Raise unless a JSON value is a JSON Schema (draft 2020-12).

    Raises:
        SchemaError: it is none; says where, and what is wrong there.
        MissingExtraError: jsonschema is not installed.

    Example:
        >>> from thalweg.search.checking import check_schema
        >>> check_schema({"properties": {"length": {"minimum": "one"}}})
        Traceback (most recent call last):
        thalweg.errors.SchemaError: this is no JSON Schema at properties.length.minimum: 'one' is not of type 'number'.
    """
    library = _library()
    validator = library.Draft202012Validator
    fault = library.exceptions.best_match(validator(validator.META_SCHEMA).iter_errors(schema))
    if fault is not None:
        path = tuple(fault.absolute_path)
        where = f" at {written_path(path)}" if path else ""
        raise SchemaError(f"this is no JSON Schema{where}: {_said(fault)}.", path=path)


class SchemaCheck:
    """Whether values fit one schema.

    As JSON Schema has it, with three differences: an ``integer`` is an int (``1.0`` is none, as nothing that counts
    would take it), ``multipleOf`` is about decimal numbers as they are written, so that 0.3 is a multiple of 0.1, and
    nothing is fetched from elsewhere.

    Args:
        schema: in its standard form.

    Example:
        >>> from thalweg.search.checking import SchemaCheck
        >>> SchemaCheck({"type": "object", "properties": {"n": {"type": "integer"}}})({"n": 1.0}, "the value of 'x'")
        Traceback (most recent call last):
        thalweg.errors.ValueMismatchError: the value of 'x' does not fit its schema at n: 1.0 is not of type 'integer'.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        library = _library()
        self._schema = schema
        self._exceptions = library.exceptions
        self._validator = _kind()(schema)

    def __reduce__(self) -> tuple[type[SchemaCheck], tuple[dict[str, Any]]]:
        return SchemaCheck, (self._schema,)  # the library's validators cannot be pickled

    def __call__(self, value: Any, what: str) -> None:
        """Raise unless a JSON value fits.

        Raises:
            ValueMismatchError: with the place of the worst fault in ``details["path"]``.
        """
        faults = list(self._validator.iter_errors(value))
        if faults:
            fault = _worst(faults, self._exceptions)
            path = tuple(fault.absolute_path)
            where = f" at {written_path(path)}" if path else ""
            more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
            raise ValueMismatchError(f"{what} does not fit its schema{where}: {_said(fault)}{more}.", path=path)


@functools.cache
def _kind() -> Any:
    """The validator's class: draft 2020-12 with our integers and multiples, as answers of models are checked by."""
    _library()
    from thalweg.lm.fitting import validator_class

    return validator_class()


def _library() -> ModuleType:
    try:
        import jsonschema
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "jsonschema":
            raise
        raise MissingExtraError(
            "schemas are checked with jsonschema, which is not installed; install it: pip install 'thalweg[search]'",
            extra="search",
        ) from error
    library: ModuleType = jsonschema
    return library


def _worst(faults: list[Any], exceptions: Any) -> Any:
    """The fault to tell: in a ``oneOf`` or ``anyOf`` that of the branch whose constants the value has, if one has."""
    fault = max(faults, key=exceptions.relevance)
    if fault.validator not in ("oneOf", "anyOf") or not fault.context:
        return exceptions.best_match([fault])
    branches = _branches(fault)
    meant = [errors for errors in branches.values() if not any(error.validator == "const" for error in errors)]
    if meant and len(meant) < len(branches):
        return _worst(meant[0], exceptions) if len(meant) == 1 else fault
    return fault if not meant else exceptions.best_match([fault])


def _branches(fault: Any) -> dict[Any, list[Any]]:
    """What is wrong in each branch of a union."""
    found: dict[Any, list[Any]] = {}
    for error in fault.context:
        found.setdefault(_branch(error), []).append(error)
    return found


def _branch(error: Any) -> Any:
    """Which branch of a union an error is in; the library does not say it of a branch that is ``false``."""
    return next(iter(error.schema_path), None)


def _said(fault: Any) -> str:
    """The library's message; long values are cut, the beginning and the end are what tells."""
    text = str(fault.message)
    wrong = [error for error in fault.context or () if error.validator == "const"]
    if wrong and {_branch(error) for error in wrong} == _branches(fault).keys():
        first = wrong[0]  # no branch has the value's constant
        known = [error.validator_value for error in wrong if error.absolute_path == first.absolute_path]
        text = f"{written_path(first.absolute_path)} is {first.instance!r}, and there are {', '.join(map(repr, known))}"
    return text if len(text) <= 300 else f"{text[:180]} ... {text[-110:]}"
