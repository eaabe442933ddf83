"""What a rule's text returns on PyTensor is of the parameter's shape, or refused when the graph is made."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import RuleError
from thalweg.rules.base import NoSlots, Number, Rule
from thalweg.rules.ranges import nonnegative

pytensor = pytest.importorskip("pytensor")
pt = pytest.importorskip("pytensor.tensor")

from thalweg.lowering.pytensor import Part, lower  # noqa: E402

X = np.arange(1.0, 7.0).reshape(3, 2)


class Slots(NamedTuple):
    mean: Any


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, nonnegative, "η"] = 0.5


def optimizer(slots: Any, update: Any, nonfinite: str = "raise", **texts: Any) -> Any:
    rule = Rule(name="mine", slots=slots, hyper=Hyper, update=update, **texts)
    return type(tw.LocalOptimizer)("Mine", (tw.LocalOptimizer,), {"rule": rule})(nonfinite=nonfinite)


def stepped(x: np.ndarray, made: Any, **typed: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """The parameter after a step with itself as its gradient, and its state."""
    shared = pytensor.shared(x.copy(), name="x", **typed)
    updates = made.update((shared**2 / 2).sum(), [shared])
    pytensor.function([], [], updates=updates, mode="FAST_COMPILE")()
    assert shared.get_value().shape == x.shape
    return shared.get_value(), [one.get_value() for one, _ in updates[1:]]


def moved(param: Any, grad: Any, h: Any) -> Any:
    return param - h.learning_rate * grad


PARAMETERS = {
    "row": (lambda p, g, s, h: (moved(p, g, h)[0], s), r"\(2,\)"),
    "mean": (lambda p, g, s, h: (moved(p, g, h).mean(), s), r"\(\)"),
    "first": (lambda p, g, s, h: (moved(p, g, h)[:1], s), r"\(1, 2\)"),
    "kept axis": (lambda p, g, s, h: (moved(p, g, h).mean(axis=1, keepdims=True), s), r"\(3, 1\)"),
    "transposed": (lambda p, g, s, h: (moved(p, g, h).T, s), r"\(2, 3\)"),
    "constant": (lambda p, g, s, h: (np.ones(2), s), r"\(2,\)"),
}


@pytest.mark.parametrize("typed", [{}, {"shape": (3, 2)}, {"shape": (None, 2)}])
@pytest.mark.parametrize("nonfinite", ["raise", "ignore", "skip", "zero"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_refused(name: str, nonfinite: str, typed: dict[str, Any]) -> None:
    update, shape = PARAMETERS[name]
    x = pytensor.shared(X.copy(), name="x", **typed)
    told = rf"^rule 'mine': update returns for the parameter shape {shape}; it is \(3, 2\), the parameter's$"
    with pytest.raises(RuleError, match=told):
        optimizer(NoSlots, update, nonfinite).update((x**2 / 2).sum(), [x])
    np.testing.assert_array_equal(x.get_value(), X)


@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
@pytest.mark.parametrize(
    ("slot", "shape"),
    [
        (lambda g: (g * g)[0], r"\(2,\)"),
        (lambda g: g[:1], r"\(1, 2\)"),
        (lambda g: (g * g).sum(axis=0, keepdims=True), r"\(1, 2\)"),
    ],
)
def test_a_slot_is_refused(slot: Any, shape: str, nonfinite: str) -> None:
    x = pytensor.shared(X.copy(), name="x")
    made = optimizer(Slots, lambda p, g, s, h: (moved(p, g, h), Slots(slot(g))), nonfinite)
    with pytest.raises(RuleError, match=rf"update returns for slot mean shape {shape}; it is \(3, 2\), the param"):
        made.update((x**2 / 2).sum(), [x])


def concluding(h: Any, sums: Any) -> Any:
    return Hyper(h.learning_rate * sums[0])


@pytest.mark.parametrize(("term", "shape"), [(lambda g: g[0], r"\(2,\)"), (lambda g: g[:1], r"\(1, 2\)")])
def test_a_term_is_refused(term: Any, shape: str) -> None:
    x = pytensor.shared(X.copy(), name="x")
    texts = {"measure": lambda p, g, s, h: (term(g),), "conclude": concluding}
    made = optimizer(NoSlots, lambda p, g, s, h: (moved(p, g, h), s), **texts)
    with pytest.raises(RuleError, match=rf"measure returns for term 0 shape {shape}; it is \(3, 2\), the param"):
        made.update((x**2 / 2).sum(), [x])


@pytest.mark.parametrize("term", [lambda g: g.sum(), lambda g: 21.0])
def test_a_term_without_dimensions_is_one_of_each_element(term: Any) -> None:
    texts = {"measure": lambda p, g, s, h: (term(g),), "conclude": concluding}
    made = optimizer(NoSlots, lambda p, g, s, h: (moved(p, g, h), s), **texts)
    np.testing.assert_allclose(stepped(X, made)[0], X - 0.5 * 6 * 21.0 * X)


def normalized(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad / grad.sum(axis=0, keepdims=True), Slots(grad[...] * 1.0)


@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
@pytest.mark.parametrize("typed", [{}, {"shape": (3, 2)}, {"shape": (None, 2)}])
def test_what_is_broadcast_inside_a_text_is_right(typed: dict[str, Any], nonfinite: str) -> None:
    x, (mean, *_) = stepped(X, optimizer(Slots, normalized, nonfinite), **typed)
    np.testing.assert_allclose(x, X - 0.5 * X / X.sum(axis=0))
    np.testing.assert_array_equal(mean, X)


@pytest.mark.parametrize("shape", [(1, 2), (1, 1), (0, 2), (1,), ()])
@pytest.mark.parametrize("told", [True, False])
def test_a_parameter_of_length_one_may_be_reduced(shape: tuple[int, ...], told: bool) -> None:
    """A text that keeps its axis is of the parameter's shape where that has length one, whatever its type says."""

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        change = grad.sum(axis=0, keepdims=True) if grad.ndim and shape[0] == 1 else grad
        return param - h.learning_rate * change, Slots(change)

    typed = {"shape": shape} if told else {}
    x, (mean, *_) = stepped(np.full(shape, 2.0), optimizer(Slots, update), **typed)
    np.testing.assert_array_equal(x, np.full(shape, 1.0))
    np.testing.assert_array_equal(mean, np.full(shape, 2.0))


def test_what_is_not_known_is_let_be() -> None:
    """An expression that is no shared variable, of a shape that its type does not tell."""

    def step(update: Any, x: Any) -> Any:
        rule = Rule(name="mine", slots=NoSlots, hyper=Hyper, update=update)
        return lower(rule, [Part(x, x * 1.0, ())], [Hyper(0.5)], pt.constant(1.0), [()]).params[0]

    x = pt.dmatrix("x")
    new = step(lambda p, g, s, h: (p - h.learning_rate * g / g.sum(keepdims=True), s), x)
    np.testing.assert_allclose(new.eval({x: X}, mode="FAST_COMPILE"), X - 0.5 * X / 21.0)
    assert step(lambda p, g, s, h: (g[:1], s), x).ndim == 2
    with pytest.raises(RuleError, match="update returns for the parameter shape "):
        step(lambda p, g, s, h: ((p - g)[0], s), x)


@pytest.mark.parametrize("typed", [{}, {"shape": (3, 2)}])
@pytest.mark.parametrize("name", rules.registry)
def test_ours_pass_in_every_form(name: str, typed: dict[str, Any]) -> None:
    cls = tw.optimizers.registry[name]
    forms: list[dict[str, Any]] = [{}, {"wrap": ["ema"]}, {"wrap": ["lookahead"], "weight_decay": 0.1}]
    forms += [{"convention": library} for library in rules.registry[name].conventions]
    for form in forms:
        x = pytensor.shared(X.copy(), name="x", **typed)
        try:
            made = cls(**form)
        except tw.ThalwegError:
            continue  # a wrapper that this rule has already, or does not take
        made.update((x**2 / 2).sum(), [x])


def test_nothing_of_it_is_in_the_graph() -> None:
    """The shapes are looked at in a copy."""
    x = pytensor.shared(X.copy(), name="x")
    updates = dict(optimizer(Slots, lambda p, g, s, h: (moved(p, g, h), Slots(g)), "ignore").update((x**2).sum(), [x]))
    inputs = set(pytensor.graph.traversal.graph_inputs(updates.values()))
    assert {one for one in inputs if one.name is None and not isinstance(one, pytensor.graph.Constant)} == set()
    names = {type(node.op).__name__ for node in pytensor.graph.traversal.applys_between([], updates.values())}
    assert "CheckAndRaise" not in names
