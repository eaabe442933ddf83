"""The names of Synalinks' page on its base optimizer, on Thalweg's engine.

Arguments, defaults, methods, the store's positions and the skipping of a store of another length are the page's. What
differs: ``json()`` is a copy, so ``json().update(...)`` changes nothing (``update(...)`` does); ``assign`` and
``update`` validate; ``numpy`` exists; ``get_config`` returns the schema itself; the forgotten ``super().__init__()`` is
noticed when the optimizer is used; a step that fails changes no variable; a variable that is not trainable is left
alone; a reward is finite, and may be told sample by sample.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from thalweg.errors import SchemaError, ValueMismatchError
from thalweg.search import RewardOptimizer, StructuredVariable, contains_schema, schema_of, standardize_schema
from thalweg.search.matching import Matching
from thalweg.search.values import copy_json

__all__ = ["DataModel", "Empty", "Iteration", "Optimizer", "Variable", "contains_schema", "standardize_schema"]


class DataModel(BaseModel):
    """A Pydantic model that tells its schema by the page's name.

    Example:
        >>> from thalweg.dialects.synalinks import DataModel
        >>> class Instructions(DataModel):
        ...     instructions: str = ""
        >>> list(Instructions.schema()["properties"])
        ['instructions']
    """

    @classmethod
    def schema(cls) -> dict[str, Any]:  # type: ignore[override]  # Pydantic's is deprecated and takes other arguments
        """The schema of the model."""
        return schema_of(cls)


class Iteration(DataModel):
    """What an optimizer counts.

    Example:
        >>> from thalweg.dialects.synalinks import Iteration
        >>> Iteration().iteration
        0
    """

    iteration: int = 0


class Empty:
    """An initializer: each field's default, or else what is empty or zero of its type.

    Args:
        data_model: a Pydantic model.

    Raises:
        SchemaError: it is none.

    Example:
        >>> from thalweg.dialects.synalinks import DataModel, Empty
        >>> class Prompt(DataModel):
        ...     text: str
        ...     examples: list[str]
        ...     temperature: float = 0.7
        >>> Empty(data_model=Prompt)()
        {'text': '', 'examples': [], 'temperature': 0.7}
    """

    def __init__(self, data_model: type[BaseModel]) -> None:
        self._schema = schema_of(data_model)

    def __call__(self) -> Any:
        """A new value each time."""
        return copy_json(_empty(self._schema, self._schema.get("$defs", {}), ()))


class Variable(StructuredVariable):
    """A variable that holds JSON with a schema.

    Args:
        initializer: what gives the first value when called, such as :class:`Empty`, or the value itself; it is copied.
        data_model: the Pydantic model that values must fit.
        trainable: whether optimizers may change it.
        name: its name.
        schema: the JSON Schema that values must fit, beside or instead of a data model.

    Raises:
        SchemaError: there is neither data model nor schema, or the schema is none.
        ValueMismatchError: the first value does not fit.

    Example:
        >>> from thalweg.dialects.synalinks import Empty, Iteration, Variable
        >>> empty = Empty(data_model=Iteration)
        >>> one, other = (Variable(initializer=empty, data_model=Iteration) for _ in range(2))
        >>> one.update({"iteration": 1})
        >>> one.json(), other.json(), one.numpy()
        ({'iteration': 1}, {'iteration': 0}, array('{"iteration":1}', dtype='<U15'))
    """

    __slots__ = ()

    def __init__(
        self,
        initializer: Callable[[], Any] | Any = None,
        data_model: type[BaseModel] | None = None,
        trainable: bool = True,
        name: str | None = None,
        schema: dict[str, Any] | None = None,
    ) -> None:
        made = callable(initializer) and not isinstance(initializer, BaseModel)
        value = initializer() if made else initializer
        super().__init__(_from_array(value), schema, data_model, name=name, trainable=trainable)

    def numpy(self) -> np.ndarray:
        """The value as JSON text in an array without axes, which :meth:`assign` takes, and which is saved unpickled."""
        return np.array(json.dumps(self.json(), separators=(",", ":"), ensure_ascii=False, allow_nan=False))

    def fitting(self, value: Any) -> Any:
        """The value as it would be held; what :meth:`numpy` returned is read first."""
        return super().fitting(_from_array(value))

    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments that make a variable like this one."""
        own = super().parameters()
        return {"initializer": own["value"], **{k: own[k] for k in ("schema", "data_model", "name", "trainable")}}


class Optimizer(RewardOptimizer):
    """Optimizer base class: all optimizers inherit from this class.

    Args:
        schema: the schema of the variables that the optimizer can act upon.
        data_model: the data model that the optimizer can act upon; its schema, if there is no other.
        name: the name of the optimizer.
        description: the description of the optimizer.
        kwargs: none is recognized.

    Raises:
        ValueError: there is neither schema nor data model, or an argument is not recognized.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.dialects.synalinks import DataModel, Optimizer, Variable
        >>> class Guess(DataModel):
        ...     guess: int = 0
        >>> class Increase(Optimizer):
        ...     '''Add one.'''
        ...
        ...     async def optimize(self, trainable_variable, reward=None):
        ...         trainable_variable.update({"guess": trainable_variable.get("guess") + 1})
        >>> guess = Variable(initializer=Guess(), data_model=Guess)
        >>> increase = Increase(data_model=Guess, name="increase")
        >>> tw.wait(increase.apply_optimization([guess], reward=0.5))
        >>> guess.json(), increase.iterations.json()
        ({'guess': 1}, {'iteration': 1})
        >>> increase
        <Optimizer name=increase description=Add one.>

    Source: the API page of Synalinks' base optimizer.
    """

    def __init__(
        self,
        schema: dict[str, Any] | None = None,
        data_model: Any = None,
        name: str | None = None,
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not schema and data_model is not None and not _is_model(data_model):
            schema = data_model.schema()
        model = data_model if _is_model(data_model) else None
        super().__init__(schema=schema or None, data_model=model, name=name, description=description, **kwargs)
        self.built = False

    @property
    def iterations(self) -> Variable:  # type: ignore[override]  # a variable on the page, a number natively
        """The variable that counts the iterations: ``{"iteration": 3}``."""
        self._check_super_called()
        assert isinstance(self._iteration, Variable)
        return self._iteration

    def _made(
        self, name: str, value: Any, schema: dict[str, Any] | None, data_model: type[BaseModel] | None
    ) -> StructuredVariable:
        return Variable(initializer=value, data_model=data_model, trainable=False, name=name, schema=schema)

    def _track_variable(self, variable: StructuredVariable) -> None:
        """Count a variable among the optimizer's own."""
        self._check_super_called()
        if not isinstance(variable, Variable):
            raise TypeError(f"{variable!r} cannot be tracked; expected a Variable of this module.")
        if all(variable is not own for own in self._own.values()):
            self._own[f"{len(self._own)} {variable.name}"] = variable

    def _refuse(self, matching: Matching) -> None:
        """Nothing: on the page, a step that concerns no variable does nothing."""

    async def optimize(self, trainable_variable: StructuredVariable, reward: Any = None) -> None:
        """Improve a single variable; subclasses implement it.

        Raises:
            NotImplementedError: this one does not.
        """
        raise NotImplementedError(f"{type(self).__name__} has no optimize() method; optimizers must implement it.")

    async def finalize(self, trainable_variable: StructuredVariable) -> None:
        """Give a single variable its final value; subclasses implement it.

        Raises:
            NotImplementedError: this one does not.
        """
        raise NotImplementedError(f"{type(self).__name__} has no finalize() method; optimizers must implement it.")

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Get the state of this optimizer: each variable's :meth:`Variable.numpy`, by its place."""
        for place, variable in enumerate(self.variables):
            assert isinstance(variable, Variable)
            store[str(place)] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Set the state of this optimizer; a store of other variables is skipped with a warning.

        Raises:
            ValueMismatchError: a value does not fit its variable; nothing was changed.
        """
        variables = self.variables
        places = [str(place) for place in range(len(variables))]
        if sorted(store) != sorted(places):
            said = f"{len(store)} variables" if len(store) != len(places) else f"the keys {', '.join(map(str, store))}"
            warnings.warn(
                f"The saved state of optimizer {self.name!r} is skipped: it has {said}, and the optimizer has "
                f"{len(places)} variables ({', '.join(places)}).",
                stacklevel=2,
            )
            return
        values = [variable.fitting(store[place]) for place, variable in zip(places, variables, strict=True)]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def __repr__(self) -> str:
        if "_own" not in vars(self):
            return super().__repr__()
        return f"<Optimizer name={self.name} description={self.description}>"


def _is_model(data_model: Any) -> bool:
    return isinstance(data_model, BaseModel) or (isinstance(data_model, type) and issubclass(data_model, BaseModel))


def _from_array(value: Any) -> Any:
    """A JSON value from what :meth:`Variable.numpy` returned; anything else as it is."""
    if not isinstance(value, np.ndarray) or value.shape != () or value.dtype.kind != "U":
        return value
    try:
        return json.loads(value.item())
    except ValueError as error:
        raise ValueMismatchError(f"the array holds {value.item()[:80]!r}, which is no JSON: {error}.") from error


_EMPTY: dict[str, Any] = {"string": "", "integer": 0, "number": 0.0, "boolean": False, "array": [], "null": None}


def _empty(schema: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    """A value of a schema that says as little as possible."""
    for keyword in ("default", "const"):
        if keyword in schema:
            return schema[keyword]
    if "enum" in schema:
        return schema["enum"][0]
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in inside:
            raise SchemaError(f"{name} requires another {name}, and so on; it has no empty value. Give a default.")
        return _empty(definitions[name], definitions, (*inside, name))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            nothing = any(branch.get("type") == "null" for branch in schema[keyword])
            return None if nothing else _empty(schema[keyword][0], definitions, inside)
    if schema.get("type") == "object":
        return {name: _empty(part, definitions, inside) for name, part in schema.get("properties", {}).items()}
    return _EMPTY.get(schema.get("type", "null"))
