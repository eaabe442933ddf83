"""StructuredVariable: a setting, a prompt, a whole configuration, as a variable of the graph.

It holds a JSON value with a schema. What is assigned is validated before anything changes, and copied; what is read is
a copy. It has a version, as array variables have one, and no gradient: what improves it is a reward.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel

from thalweg.errors import GradientDtypeError, SchemaError, SearchError, ValueMismatchError
from thalweg.graph import Variable
from thalweg.search.checking import SchemaCheck
from thalweg.search.modeling import dumped, fitted, replaced
from thalweg.search.schemas import schema_of, standardize_schema
from thalweg.search.values import copy_json


class StructuredVariable(Variable):
    """A variable that holds a JSON value with a schema.

    Args:
        value: the first value: JSON (dict, list, text, number, ...) or an instance of a Pydantic model, whose class is
            then the data model if nothing else is given. It is copied.
        schema: what values must fit, a JSON Schema (draft 2020-12); the data model's if there is none.
        data_model: a class derived from ``pydantic.BaseModel``. Values must fit it without conversions, and fields
            that are not given get its defaults. With a schema besides, they must fit both.
        name: a name for messages, optimizers and candidates.
        trainable: whether optimizers may change it. One that is not can still be assigned by hand.
        description: what it is for, in words, for reports and language models.
        needs_grad: a structured value has no gradient, so only False.

    Raises:
        SchemaError: there is neither schema nor data model, or the schema is none.
        ValueMismatchError: the value does not fit.
        SearchError: the name is empty or cannot be printed.
        GradientDtypeError: ``needs_grad=True``.
        MissingExtraError: there is a schema, and jsonschema is not installed.

    Example:
        >>> from thalweg.search import StructuredVariable
        >>> positive = {"type": "number", "exclusiveMinimum": 0}
        >>> smoothing = StructuredVariable(
        ...     {"length": 2.0}, {"type": "object", "properties": {"length": positive}}, name="smoothing"
        ... )
        >>> smoothing.update({"length": 3.0})
        >>> smoothing.json(), smoothing.version
        ({'length': 3.0}, 1)
        >>> smoothing.assign({"length": -1.0})
        Traceback (most recent call last):
        thalweg.errors.ValueMismatchError: the value of 'smoothing' does not fit its schema at length: -1.0 is less \
than or equal to the minimum of 0.
        >>> smoothing
        StructuredVariable('smoothing', length=3.0)
    """

    __slots__ = ("_called", "_check", "_model", "_schema", "_trainable", "description")

    _takes_grad: ClassVar[bool] = False

    def __init__(
        self,
        value: Any,
        schema: dict[str, Any] | None = None,
        data_model: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        trainable: bool = True,
        description: str | None = None,
        needs_grad: bool = False,
    ) -> None:
        super().__init__(None, name=name)
        self.needs_grad = needs_grad
        if schema is None and data_model is None:
            if not isinstance(value, BaseModel):
                raise SchemaError(
                    f"{self._title()} has neither schema nor data_model; give one of them, so that values can be "
                    "checked, or an instance of a Pydantic model as the value."
                )
            data_model = type(value)
        self._model = data_model
        self._schema: dict[str, Any] = {}
        self._check: SchemaCheck | None = None
        if data_model is not None:
            self._schema = schema_of(data_model)  # first, as it refuses what is no model
        if schema is not None:
            self._schema = standardize_schema(schema)
            self._check = SchemaCheck(self._schema)
        self.trainable = trainable
        self.description = description
        self._data = self.fitting(value)

    # -- the value ----------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The value, copied. Assigning is :meth:`assign`."""
        return copy_json(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        self.assign(value)

    def json(self) -> Any:
        """The value, copied: changing what is returned changes nothing here."""
        return copy_json(self._data)

    def get(self, key: str, default: Any = None) -> Any:
        """One entry of the value, copied.

        Args:
            key: a key of the value at its top.
            default: what is returned if there is no such key.

        Raises:
            ValueMismatchError: the value is no dict.
        """
        return copy_json(self._dict()[key]) if key in self._dict() else default

    def assign(self, value: Any) -> None:
        """Replace the value: a new version.

        Args:
            value: JSON, or an instance of a Pydantic model. It is copied.

        Raises:
            ValueMismatchError: it does not fit; the variable is as before.
        """
        fitting = self.fitting(value)
        self._data = fitting
        # A new counter, as for arrays: a detached variable goes on with the value that it shares.
        self._counter = [self._counter[0] + 1]

    def update(self, partial: dict[str, Any]) -> None:
        """Replace some entries of the value at its top, and keep the others: a new version.

        Args:
            partial: entries by key, or by any name under which a data model reads them; each replaces the whole entry.

        Raises:
            ValueMismatchError: the value is no dict, or the result does not fit; the variable is as before.
        """
        if not isinstance(partial, dict):
            raise ValueMismatchError(
                f"{self._title()} was to be updated with a {type(partial).__name__}; give a dict of the entries to "
                "replace, or assign the whole value."
            )
        self.assign(replaced(self._dict(), partial, self._model))

    def _dict(self) -> dict[str, Any]:
        if not isinstance(self._data, dict):
            raise ValueMismatchError(
                f"the value of {self._title()} is a {type(self._data).__name__}, which has no keys; use json() and "
                "assign()."
            )
        return self._data

    def fitting(self, value: Any) -> Any:
        """The value as it would be held: copied, checked, and with a data model's defaults; nothing is assigned.

        Raises:
            ValueMismatchError: it does not fit.
        """
        what = f"the value of {self._title()}"
        if isinstance(value, BaseModel):
            if self._model is not None and not isinstance(value, self._model):
                raise ValueMismatchError(
                    f"{what} is a {type(value).__name__}; expected a {self._model.__name__}, or JSON that fits it."
                )
            value = dumped(value, what)
        else:
            value = copy_json(value, what=what)
        if self._model is not None:
            value = fitted(value, self._model, what)
        if self._check is not None:
            self._check(value, what)
        return value

    def held(self) -> tuple[Any, list[int]]:
        """What :meth:`hold` needs to put value and version back as they are now."""
        return self._data, self._counter

    def hold(self, held: tuple[Any, list[int]]) -> None:
        """Put back what :meth:`held` returned, with its version: as if nothing had been assigned since."""
        self._data, self._counter = held

    # -- what it is ---------------------------------------------------------------------

    def schema(self) -> dict[str, Any]:
        """What values must fit, in its standard form, copied."""
        copied: dict[str, Any] = copy_json(self._schema)
        return copied

    @property
    def data_model(self) -> type[BaseModel] | None:
        """The Pydantic model that values must fit, or None."""
        return self._model

    @property
    def trainable(self) -> bool:
        """Whether optimizers may change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise SearchError(f"trainable of {self._title()} is {value!r}; expected True or False.")
        self._trainable = value

    @property
    def name(self) -> str | None:
        """The name, or None."""
        return self._called

    @name.setter
    def name(self, value: str | None) -> None:
        if value is not None and not (isinstance(value, str) and value.strip() and value.isprintable()):
            raise SearchError(
                f"the name of a structured variable is {value!r}; expected text that can be printed, such as "
                "'instructions', or None."
            )
        self._called = value

    @property
    def needs_grad(self) -> bool:
        """False: a structured value has no gradient."""
        return False

    @needs_grad.setter
    def needs_grad(self, value: bool) -> None:
        if value:
            raise GradientDtypeError(
                f"{self._title()} was told needs_grad=True; a structured value has no gradient. Give what needs one to "
                "an array variable of its own, and let a reward choose the rest.",
                variable=self.name,
            )

    # -- copies -------------------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments that make a variable like this one."""
        return {
            "value": self._data,
            "schema": self._schema if self._check is not None else None,
            "data_model": self._model,
            "name": self.name,
            "trainable": self._trainable,
            "description": self.description,
        }

    def copy(self, **parameters: Any) -> Self:
        """Create a variable like this one with a value of its own.

        The same parameters as those given to ``__init__`` are valid here, to differ in.
        """
        return type(self)(**{**self.parameters(), **parameters})

    def detach(self, **parameters: Any) -> Self:
        """Create a variable that shares value and versions with this one, until one of them is assigned another."""
        detached = self.copy(**parameters)
        if next(iter(self.parameters())) not in parameters:  # the value, by whatever name
            detached._data, detached._counter = self._data, self._counter
        return detached

    def _title(self) -> str:
        return "a structured variable" if self.name is None else repr(self.name)

    def __repr__(self) -> str:
        words = [] if self.name is None else [repr(self.name)]
        if isinstance(self._data, dict):
            words += [f"{key}={_short(item)}" for key, item in list(self._data.items())[:4]]
            words += ["..."] if len(self._data) > 4 else []
        else:
            words.append(_short(self._data))
        words += [] if self._trainable else ["not trainable"]
        return f"{type(self).__name__}({', '.join(words)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:28]}...{text[-9:]}"
