"""What people write at first, and what they are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects import mxnet
from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable, wait
from thalweg.optimizers import LocalOptimizer, registry
from thalweg.schedules import Exp, Plateau


def variable(name: str = "x") -> Variable:
    return Variable(np.ones(2), name=name, needs_grad=True)


every_class = pytest.mark.parametrize("cls", list(registry.values()), ids=list(registry))


@every_class
def test_hyperparameters_by_position_are_named(cls: type[LocalOptimizer]) -> None:
    words = rf"{cls.__name__} takes .* by keyword, and was given a float, 0\.1, after the .*write learning_rate=0\.1"
    with pytest.raises(HyperparameterError, match=words):
        cls(variable(), 0.1)  # type: ignore[call-arg]


def test_several_variables_are_a_list() -> None:
    with pytest.raises(HyperparameterError, match=r"Adam takes several variables as a list: Adam\(\[x, y\], \.\.\.\)"):
        tw.Adam(variable("x"), variable("y"))  # type: ignore[call-arg]


def test_a_rate_in_the_place_of_variables_is_named() -> None:
    with pytest.raises(OptimizerError, match=r"got a float, 0\.1, to optimize; .* by keyword: learning_rate="):
        tw.Adam(0.1)  # type: ignore[arg-type]


def test_a_gradient_by_position_is_no_step_size() -> None:
    x = variable()
    optimizer = tw.SGD(x)
    with pytest.raises(HyperparameterError, match=r"was given a ndarray; if it is a gradient, write step\(grad="):
        wait(optimizer.step(np.ones(2)))  # type: ignore[arg-type]
    with pytest.raises(HyperparameterError, match="was given a list"):
        wait(optimizer.step([1.0, 1.0]))  # type: ignore[arg-type]
    assert x.data.tolist() == [1.0, 1.0]
    wait(optimizer.step(np.float32(0.5), grad=np.ones(2)))
    wait(optimizer.step(np.array(0.5), grad=np.ones(2)))
    assert x.data.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "place",
    [
        lambda optimizer: tw.SGD(learning_rate=Exp),
        lambda optimizer: setattr(optimizer, "learning_rate", Exp),
        lambda optimizer: tw.SGD(groups=[{"variables": "x", "learning_rate": Exp}]),
    ],
    ids=["constructor", "attribute", "group"],
)
def test_the_class_of_a_schedule_is_none(place: Any) -> None:
    optimizer = tw.SGD()
    with pytest.raises(HyperparameterError, match=r"the class Exp; give a schedule made of it: learning_rate=Exp\("):
        place(optimizer)
    assert optimizer.learning_rate == 0.01


@pytest.mark.parametrize("hook", ["process_grad", "process_model"])
def test_the_class_of_a_transform_is_none(hook: str) -> None:
    for given in (tw.transforms.clip_norm, [tw.transforms.clip_value(1.0), tw.transforms.clip_norm]):
        with pytest.raises(HyperparameterError, match=rf"{hook} holds the class clip_norm; .*: clip_norm\("):
            tw.SGD(**{hook: given})


def recipes() -> list[tuple[str, Any]]:
    def torch(*given: Any, **named: Any) -> Any:
        library = pytest.importorskip("torch")
        from thalweg.optimizers.torch import TorchOptimizer

        return TorchOptimizer([library.ones(2, requires_grad=True)], *given, **named)

    def jax(*given: Any, **named: Any) -> Any:
        pytest.importorskip("jax")
        from thalweg.optimizers.jax import JaxOptimizer

        return JaxOptimizer(*given, **named)

    return [("TorchOptimizer", torch), ("JaxOptimizer", jax), ("get_updater", tw.get_updater)]


@pytest.mark.parametrize(("name", "make"), recipes(), ids=[name for name, _ in recipes()])
def test_a_recipe_is_an_optimizer(name: str, make: Any) -> None:
    with pytest.raises(HyperparameterError, match=rf"{name} was given the class Adam; .*tw\.Adam\(\.\.\.\)"):
        make(tw.Adam)
    with pytest.raises(HyperparameterError, match=rf"{name} was given a float, 0\.1, for a recipe; .*tw\.Adam\("):
        make(0.1)
    with pytest.raises(OptimizerError, match=rf"sgd is bound to x, .*{name} takes one without variables: .*tw\.SGD\("):
        make(tw.SGD(variable()))


def test_a_recipe_in_the_place_of_the_parameters_is_told_in_a_few_words() -> None:
    """All weights of the model stood before the end of the sentence."""
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    weights = list(torch.nn.Linear(100, 100).parameters())
    with pytest.raises(HyperparameterError) as caught:
        TorchOptimizer(tw.Adam(), weights)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "TorchOptimizer was given a list of 2, for a recipe; the recipe stands where the parameters belong: the two "
        "are swapped: TorchOptimizer(parameters, tw.Adam(learning_rate=1e-3))"
    )
    with pytest.raises(
        HyperparameterError, match="no recipe; the recipe stands where the parameters belong: give these"
    ):
        TorchOptimizer(tw.Adam())  # type: ignore[arg-type]
    for wrong in (torch.nn.Linear(100, 100), weights[0]):
        with pytest.raises(HyperparameterError, match="was given a") as caught:
            TorchOptimizer(weights, wrong)
        assert len(str(caught.value)) < 200
    with pytest.raises(HyperparameterError, match="was given a Parameter, after the variables") as caught:
        tw.Adam(variable(), weights[0])
    assert len(str(caught.value)) < 200
    with pytest.raises(OptimizerError, match="got a Linear, to optimize") as caught:
        tw.Adam(torch.nn.Linear(100, 100))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("name", "make"), recipes()[:2], ids=[name for name, _ in recipes()[:2]])
def test_hyperparameters_belong_to_the_recipe(name: str, make: Any) -> None:
    with pytest.raises(HyperparameterError, match=rf"{name} was given no recipe; give an optimizer of ours"):
        make()
    for given in ((), (tw.Adam(),)):
        words = rf"{name} was given lr, betas; .* belong to the recipe: .*tw\.Adam\(learning_rate=0\.1, betas=\(0"
        with pytest.raises(HyperparameterError, match=words):
            make(*given, lr=0.1, betas=(0.9, 0.99))
    assert name in repr(make(recipe=tw.Adam())), "one name of the argument"


# ------------------------------------------------------------------ what can be read


def test_the_repr_says_what_is_not_as_by_default() -> None:
    assert repr(tw.SGD()) == "SGD(unbound; learning_rate=0.01, weight_decay=0.0)"
    options: dict[str, Any] = {"convention": "keras", "wrap": ["ema"], "accumulate": 2, "nonfinite": "skip"}
    words = "ema_decay=0.999, decay='decoupled', convention='keras', wrap=('ema',), accumulate=2, nonfinite='skip')"
    assert repr(tw.SGD(variable(), **options)).endswith(words)
    optimizer = tw.SGD(**options)
    assert (optimizer.convention, optimizer.wrap, optimizer.accumulate, optimizer.nonfinite) == (
        *("keras", ("ema",)),
        *(2, "skip"),
    )
    plain = tw.SGD()
    assert (plain.convention, plain.wrap, plain.accumulate, plain.nonfinite) == (None, (), 1, "raise")


@pytest.mark.parametrize("name", ["convention", "wrap", "accumulate", "nonfinite", "groups", "rule"])
def test_what_an_optimizer_was_made_with_stays(name: str) -> None:
    optimizer = tw.SGD()
    before = getattr(optimizer, name)
    with pytest.raises(HyperparameterError, match=f"{name} stays as it was given"):
        setattr(optimizer, name, before)
    assert getattr(optimizer, name) is before


def test_the_present_value_of_a_group() -> None:
    tables: list[dict[str, Any]] = [
        {"variables": "x", "learning_rate": Exp(1.0, gamma=0.5, decay_on_iteration=True)},
        {"variables": "y", "weight_decay": 0.5},
    ]
    optimizer = tw.SGD([variable("x"), variable("y")], learning_rate=0.25, groups=tables)
    for _ in range(2):
        wait(optimizer.step(grad={"x": np.zeros(2), "y": np.zeros(2)}))
    assert [optimizer.current("learning_rate", group=group) for group in (None, 0, 1)] == [0.25, 0.5, 0.25]
    assert [optimizer.current("weight_decay", group=group) for group in (None, 0, 1)] == [0.0, 0.0, 0.5]
    for group in (2, -1, "x", True):
        with pytest.raises(HyperparameterError, match="there are 2, counted from 0"):
            optimizer.current("learning_rate", group=group)  # type: ignore[arg-type]
    with pytest.raises(HyperparameterError, match="did you mean 'learning_rate'"):
        optimizer.current("learning_rat", group=0)


def test_mxnet_s_optimizers_say_what_they_are() -> None:
    assert repr(mxnet.SGD(lr=0.5)) == (
        "SGD(grad_clip=0.0, weight_decay=0.0001, lr_scheduler=LearningRate.Fixed(lr=0.5), "
        "momentum_scheduler=Momentum.Fixed(momentum=0.0))"
    )
    assert repr(mxnet.ADAM()).startswith("ADAM(grad_clip=0.0, weight_decay=1e-05, lr_scheduler=LearningRate.Fixed(lr=")
    for make, owner in ((mxnet.SGD, "SGD"), (mxnet.ADAM, "ADAM")):
        for wrong in ({"weight_decay": -1}, {"grad_clip": -1}):
            with pytest.raises(HyperparameterError, match=f"^{owner}: {next(iter(wrong))} is -1"):
                make(**wrong)
    with pytest.raises(HyperparameterError, match=r"^ADAM: beta1 is 2"):
        mxnet.ADAM(beta1=2)


def test_a_metric_reaches_a_plateau_of_a_group() -> None:
    plateau = Plateau(1.0, factor=0.5, patience=0)
    optimizer = tw.SGD(variable(), groups=[{"variables": "x", "learning_rate": plateau}])
    for loss in (1.0, 2.0):
        optimizer.observe(loss)
    assert optimizer.current("learning_rate", group=0) == 0.5


def by_count(count: Any) -> Any:
    """A schedule as Optax has them: of the steps that are over."""
    return 0.5 * 0.9 ** (count / 2)


def test_a_schedule_of_a_count_is_told_how_to_go_in() -> None:
    words = r"learning_rate follows .*fails when it is called with an OptimizationState \(TypeError: .*lambda state: "
    for make in (tw.Adam, lambda **rate: tw.Adam(groups=[{"variables": "x", **rate}])):
        with pytest.raises(HyperparameterError, match=f"adam: {words}"):
            make(learning_rate=by_count)
    optimizer = tw.Adam(learning_rate=0.25)
    with pytest.raises(HyperparameterError, match=words) as caught:
        optimizer.learning_rate = by_count
    assert isinstance(caught.value.__cause__, TypeError)
    assert optimizer.learning_rate == 0.25
    with pytest.raises(HyperparameterError, match=f"get_learning_rate: {words}"):
        tw.get_learning_rate(by_count, tw.OptimizationState())
    x = variable()
    optimizer = tw.SGD(x, learning_rate=lambda state: by_count(state.completed_iterations))
    for count in range(3):
        before = x.data.copy()
        wait(optimizer.step(grad=np.ones(2)))
        np.testing.assert_allclose(before - x.data, by_count(count), rtol=1e-14)


def test_so_it_is_on_jax() -> None:
    jax = pytest.importorskip("jax")
    from thalweg.optimizers.jax import JaxOptimizer

    with pytest.raises(HyperparameterError, match=r"lambda state: schedule\(state.completed_iterations\)"):
        JaxOptimizer(tw.SGD(learning_rate=by_count))
    optimizer = JaxOptimizer(tw.SGD(learning_rate=lambda state: by_count(state.completed_iterations)))
    x = jax.numpy.zeros(2)
    state = optimizer.init(x)
    for count in range(3):
        before, (x, state) = x, optimizer.step(x, jax.numpy.ones(2), state)
        np.testing.assert_allclose(before - x, by_count(count), rtol=1e-5)
