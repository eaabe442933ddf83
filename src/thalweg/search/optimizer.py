"""RewardOptimizer: what improves structured variables by their rewards.

::

    for each trainable variable whose schema contains the optimizer's:   optimize(variable, reward)
    and at the end:                                                      finalize(variable)

It acts on what it understands, says what it left alone, and keeps what it knows in variables of its own, which runs
save and load by name.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from thalweg.errors import (
    HyperparameterError,
    OptimizerError,
    SchemaError,
    SearchError,
    StateMismatchError,
    UninitializedError,
)
from thalweg.graph import Variable
from thalweg.rules.spelling import unknown
from thalweg.search.containing import standard_contains
from thalweg.search.matching import Matching, match
from thalweg.search.naming import auto_name
from thalweg.search.rewards import Reward, SampleReward, finite
from thalweg.search.schemas import schema_of, standardize_schema
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import copy_json

Rewarded = float | Reward | Sequence[SampleReward] | None

_ITERATION = {
    "type": "object",
    "properties": {"iteration": {"type": "integer", "minimum": 0}},
    "required": ["iteration"],
    "additionalProperties": False,
}


class RewardOptimizer(abc.ABC):
    """Base class of optimizers of structured variables: all of them inherit from this class.

    A subclass defines :meth:`optimize` and :meth:`finalize`, plain functions or coroutines, and calls
    ``super().__init__`` first. What it has to remember goes into variables that :meth:`add_variable` makes.

    Args:
        schema: the schema of the variables that the optimizer can act upon: a variable's schema has to contain it.
        data_model: a Pydantic model to take the schema from, if no schema is given.
        name: the name of the optimizer; one made of the class's by default.
        description: what it does; the first line of the class's docstring by default.

    Raises:
        SchemaError: neither schema nor data model, or the schema is none.
        HyperparameterError: an argument that is not known.
        SearchError: name or description are no text.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search import RewardOptimizer, StructuredVariable
        >>> class Halve(RewardOptimizer):
        ...     '''Halve a length as long as that helps.'''
        ...
        ...     def __init__(self, **arguments):
        ...         schema = {"type": "object", "properties": {"length": {"type": "number"}}}
        ...         super().__init__(**{"schema": schema, **arguments})
        ...         best = {"type": "object", "properties": {"reward": {"type": ["number", "null"]}}}
        ...         self.best = self.add_variable("best", {"reward": None}, best)
        ...
        ...     def optimize(self, trainable_variable, reward=None):
        ...         best = self.best.get("reward")
        ...         if best is None or reward > best:
        ...             self.best.assign({"reward": reward})
        ...             trainable_variable.update({"length": trainable_variable.get("length") / 2})
        ...
        ...     def finalize(self, trainable_variable):
        ...         trainable_variable.update({"length": 2 * trainable_variable.get("length")})
        >>> positive = {"type": "number", "exclusiveMinimum": 0}
        >>> setting = StructuredVariable({"length": 8.0}, {"type": "object", "properties": {"length": positive}})
        >>> halve = Halve(name="halve")
        >>> halve
        <Halve name='halve' description='Halve a length as long as that helps.'>
        >>> for reward in (0.1, 0.5, 0.2):
        ...     tw.wait(halve.apply_optimization([setting], reward=reward))
        >>> tw.wait(halve.finalize_variable_values([setting]))
        >>> setting.json(), halve.iterations
        ({'length': 4.0}, 3)

    Source: the API page of Synalinks' base optimizer. Differences: state goes by names; what does not fit is an error;
    a step that fails changes no variable; ``iterations`` is a number; a step that concerns no variable at all is an
    error.
    """

    def __init__(
        self,
        schema: dict[str, Any] | None = None,
        data_model: type[BaseModel] | BaseModel | None = None,
        name: str | None = None,
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        for argument in kwargs:
            raise unknown(f"argument of {type(self).__name__}", argument, known_arguments(type(self)))
        if schema is None and data_model is None:
            raise SchemaError(
                f"{type(self).__name__} got neither schema nor data_model; give one of them, to say which variables it "
                "can act upon."
            )
        self._schema = standardize_schema(schema) if schema is not None else schema_of(data_model)  # type: ignore[arg-type]  # one of them is there
        self.name = auto_name(type(self).__name__) if name is None else _text(name, "name", type(self))
        doc = inspect.cleandoc(type(self).__doc__ or "").partition("\n")[0].strip()
        self.description = doc if description is None else _text(description, "description", type(self))
        self._own: dict[str, StructuredVariable] = {}
        self._matches: WeakKeyDictionary[StructuredVariable, bool] = WeakKeyDictionary()
        self._busy = False
        self._last: Matching | None = None
        self._iteration = self.add_variable("iteration", {"iteration": 0}, _ITERATION)

    # -- what it is ---------------------------------------------------------------------

    def schema(self) -> dict[str, Any]:
        """The schema that a variable's has to contain, in its standard form, copied."""
        self._check_super_called()
        copied: dict[str, Any] = copy_json(self._schema)
        return copied

    @property
    def variables(self) -> list[StructuredVariable]:
        """The optimizer's own variables, which are its state: the count of iterations, and what a subclass added."""
        self._check_super_called()
        return list(self._own.values())

    @property
    def iterations(self) -> int:
        """How often :meth:`apply_optimization` succeeded."""
        self._check_super_called()
        return int(self._iteration.get("iteration"))

    @property
    def matched(self) -> Matching | None:
        """What the last step acted on and what it left alone, or None."""
        self._check_super_called()
        return self._last

    def add_variable(
        self,
        name: str,
        value: Any,
        schema: dict[str, Any] | None = None,
        data_model: type[BaseModel] | None = None,
    ) -> StructuredVariable:
        """Make a variable for something that the optimizer has to remember; it is saved and loaded by its name.

        Args:
            name: its name, which no other of the optimizer's variables has.
            value: the first value, JSON or an instance of a Pydantic model.
            schema: what it must fit.
            data_model: a Pydantic model that it must fit.

        Raises:
            SearchError: there is one of this name.
            SchemaError, ValueMismatchError: as for any structured variable.
        """
        self._check_super_called()
        if name in self._own:
            raise SearchError(f"{self.name!r} has a variable {name!r} already; give this one another name.")
        self._own[name] = variable = self._made(name, value, schema, data_model)
        return variable

    def _made(
        self, name: str, value: Any, schema: dict[str, Any] | None, data_model: type[BaseModel] | None
    ) -> StructuredVariable:
        return StructuredVariable(value, schema, data_model, name=name, trainable=False)

    # -- steps --------------------------------------------------------------------------

    @abc.abstractmethod
    def optimize(self, trainable_variable: StructuredVariable, reward: Any = None) -> Any:
        """Improve one variable; a plain function or a coroutine.

        Args:
            trainable_variable: a variable whose schema contains the optimizer's.
            reward: of the variables' present values: None, a float, or a :class:`Reward` if samples were told apart
                (``float(reward)`` is the number in both cases); higher is better.
        """

    @abc.abstractmethod
    def finalize(self, trainable_variable: StructuredVariable) -> Any:
        """Give one variable its final value; a plain function or a coroutine."""

    async def apply_optimization(
        self, trainable_variables: Variable | Iterable[Variable], reward: Rewarded = None
    ) -> None:
        """Improve each trainable variable whose schema contains the optimizer's.

        All or nothing: if :meth:`optimize` fails or is cancelled, all variables are as before, the optimizer's own,
        too.

        Args:
            trainable_variables: the variables; those that are not trainable, of arrays, or of another schema are left
                alone, see :attr:`matched`.
            reward: how good their present values are, finite, higher is better: a number, a :class:`Reward`, or a
                sequence of :class:`SampleReward`. None if there is none yet.

        Raises:
            SearchError: the reward is not finite, a variable is none or is there twice, or none of them matches.
            OptimizerError: a step of this optimizer is under way.
            UninitializedError: the subclass did not call ``super().__init__()``.
        """
        self._check_super_called()
        matching = self.matching(trainable_variables)
        told = _told(reward)
        with self._step(matching):
            self._iteration.assign({"iteration": self._iteration.get("iteration") + 1})
            for variable in matching.acted:
                await _done(self.optimize(variable, reward=told))

    async def finalize_variable_values(self, trainable_variables: Variable | Iterable[Variable]) -> None:
        """Give each variable that the optimizer acts upon its final value.

        Args:
            trainable_variables: as for :meth:`apply_optimization`.

        Raises:
            SearchError, OptimizerError, UninitializedError: as there.
        """
        self._check_super_called()
        matching = self.matching(trainable_variables)
        with self._step(matching):
            for variable in matching.acted:
                await _done(self.finalize(variable))

    def matching(self, trainable_variables: Variable | Iterable[Variable]) -> Matching:
        """Tell which variables a step would act on, and why it would leave the others alone.

        Raises:
            SearchError: something is no variable, or is there twice.
        """
        self._check_super_called()
        return match(trainable_variables, self._contained_in, self.name)

    def _contained_in(self, variable: StructuredVariable) -> bool:
        if variable not in self._matches:
            self._matches[variable] = standard_contains(variable.schema(), self._schema)
        return self._matches[variable]

    def _refuse(self, matching: Matching) -> None:
        """Raise if a step would do nothing at all."""
        if not matching.acted:
            reasons = "; ".join(f"{variable.name or variable!r}: {reason}" for variable, reason in matching.left)
            properties = ", ".join(self._schema.get("properties", {})) or "no properties"
            raise SearchError(
                f"{self.name!r} acts on variables with {properties}, and none of those given is one "
                f"({reasons or 'none were given'}); contains_schema(variable.schema(), optimizer.schema()) tells."
            )

    @contextmanager
    def _step(self, matching: Matching) -> Iterator[None]:
        """What a step changes, put back if it fails."""
        self._refuse(matching)
        if self._busy:
            raise OptimizerError(f"a step of {self.name!r} is under way; wait for its end before the next one.")
        own = dict(self._own)
        before = [(variable, variable.held()) for variable in (*own.values(), *matching.acted)]
        self._busy = True
        try:
            yield
        except BaseException:
            self._own = own
            for variable, held in before:
                variable.hold(held)
            raise
        finally:
            self._busy = False
        self._last = matching

    # -- state --------------------------------------------------------------------------

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Put the values of the optimizer's own variables into a mapping, by name, as JSON."""
        self._check_super_called()
        for name, variable in self._own.items():
            store[name] = variable.json()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Continue from what :meth:`save_own_variables` saved; all of it is checked before anything changes.

        Raises:
            StateMismatchError: a variable is missing, or is not known, or its value does not fit.
        """
        self._check_super_called()
        faults = [f"{name!r} is missing" for name in self._own if name not in store]
        faults += [f"{name!r} is none of its variables" for name in store if name not in self._own]
        values: dict[str, Any] = {}
        for name, variable in self._own.items():
            if name in store:
                try:
                    values[name] = variable.fitting(store[name])
                except SearchError as error:
                    faults.append(str(error).rstrip("."))
        if faults:
            raise StateMismatchError(
                f"this state is not one of {self.name!r}, a {type(self).__name__}: {'; '.join(faults)}. Nothing was "
                f"changed. (It has: {', '.join(self._own)}.)",
                optimizer=self.name,
                faults=faults,
            )
        for name, value in values.items():
            self._own[name].assign(value)

    def get_config(self) -> dict[str, Any]:
        """How it was configured, as JSON: name, description and schema, as far as the class takes them as arguments.

        A subclass adds its own arguments: ``{**super().get_config(), "step": self.step}``.
        """
        config = {"schema": self.schema(), "name": self.name, "description": self.description}
        known = known_arguments(type(self))
        return {name: value for name, value in config.items() if name in known}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """An optimizer configured as ``config`` says.

        Args:
            config: what :meth:`get_config` returned, possibly by way of a file.

        Raises:
            ValueMismatchError: it is no JSON.
            HyperparameterError: an argument is not known or missing.
        """
        arguments = copy_json(dict(config), what=f"the configuration of {cls.__name__}")
        known = known_arguments(cls)
        for argument in arguments:
            if argument not in known:
                raise unknown(f"argument of {cls.__name__}", argument, known)
        missing = [
            p.name
            for p in inspect.signature(cls).parameters.values()
            if p.default is p.empty and p.name not in arguments
        ]
        if missing := [name for name in missing if name in known]:
            raise HyperparameterError(
                f"the configuration of {cls.__name__} lacks {', '.join(missing)}; its get_config() has to return every "
                "argument that __init__ needs."
            )
        return cls(**arguments)

    def _check_super_called(self) -> None:
        """Raise unless the base class's ``__init__`` has run."""
        if "_own" not in vars(self):
            raise UninitializedError(
                f"{type(self).__name__} did not call super().__init__() in its __init__(); make that its first "
                "statement, so that the optimizer has a schema and a state."
            )

    def __repr__(self) -> str:
        if "_own" not in vars(self):
            return f"<{type(self).__name__}, which did not call super().__init__()>"
        return f"<{type(self).__name__} name={self.name!r} description={self.description!r}>"


def _told(reward: Rewarded) -> float | Reward | None:
    """A reward as :meth:`RewardOptimizer.optimize` gets it."""
    if reward is None or isinstance(reward, Reward):
        return reward
    return Reward.of(reward) if isinstance(reward, list | tuple) else finite(reward, "the reward")


async def _done(result: Any) -> None:
    if hasattr(result, "__await__"):
        await result


def _text(value: Any, what: str, cls: type) -> str:
    if not isinstance(value, str) or (what == "name" and not (value.strip() and value.isprintable())):
        raise SearchError(f"the {what} of {cls.__name__} is {value!r}; expected text.")
    return value


def known_arguments(cls: type) -> list[str]:
    """The arguments that a class takes by name, over the ``**kwargs`` that each ``__init__`` hands to the next one."""
    names: list[str] = []
    for each in cls.__mro__:
        if "__init__" not in vars(each) or each is object:
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))
