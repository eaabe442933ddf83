"""The page's names, arguments, defaults, formulas and counts; and the defects of its library, each a test."""

from __future__ import annotations

import copy
import hashlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.references import oracles
from thalweg import schedules
from thalweg.dialects import mxnet as page
from thalweg.dialects.mxnet import (
    ADAM,
    SGD,
    AbstractLearningRateScheduler,
    AbstractMomentumScheduler,
    AbstractOptimizer,
    AbstractOptimizerOptions,
    LearningRate,
    Momentum,
    OptimizationState,
    get_learning_rate,
    get_momentum,
    get_updater,
    normalized_gradient,
)
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    NonFiniteGradientError,
    ParameterError,
    StateMismatchError,
)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def rates(optimizer: AbstractOptimizer, epochs: int, batches: int) -> list[float]:
    """The rate of each update of plain descent, read off the steps, in a loop that counts as the page says."""
    update, w, found = get_updater(optimizer), np.zeros(1), []
    state = optimizer.state = OptimizationState(batch_size=1)
    for epoch in range(1, epochs + 1):
        state.curr_epoch, state.curr_batch = epoch, 0
        for _ in range(batches):
            state.curr_batch += 1
            state.curr_iter += 1
            w[:] = 0.0
            update("w", -np.ones(1), w)
            found.append(float(w[0]))
    return found


# ------------------------------------------------------------------ the page


def test_the_page_s_names_are_there() -> None:
    assert set(page.__all__) == {
        *("AbstractOptimizer", "AbstractLearningRateScheduler", "AbstractMomentumScheduler"),
        *("AbstractOptimizerOptions", "OptimizationState", "get_learning_rate", "get_momentum", "LearningRate"),
        *("Momentum", "get_updater", "normalized_gradient", "SGD", "ADAM"),
    }
    assert all(issubclass(one, AbstractOptimizer) for one in (SGD, ADAM))
    for rate in (LearningRate.Fixed, LearningRate.Exp, LearningRate.Inv):
        assert issubclass(rate, AbstractLearningRateScheduler)
    for momentum in (Momentum.Null, Momentum.Fixed):
        assert issubclass(momentum, AbstractMomentumScheduler)
    assert isinstance(SGD().opts, AbstractOptimizerOptions)


def test_arguments_and_defaults_are_the_page_s() -> None:
    def defaults(of: Any) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(of).parameters.items() if p.default is not p.empty}

    assert defaults(SGD) == {
        "lr": 0.01,
        "lr_scheduler": None,
        "momentum": 0.0,
        "momentum_scheduler": None,
        "grad_clip": 0,
        "weight_decay": 0.0001,
    }
    assert defaults(ADAM) == {
        "lr": 0.001,
        "lr_scheduler": None,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "grad_clip": 0,
        "weight_decay": 0.00001,
    }
    assert defaults(LearningRate.Exp) == {"gamma": 0.9, "decay_on_iteration": False}
    assert defaults(LearningRate.Inv) == {"gamma": 0.9, "power": 0.5, "decay_on_iteration": False}
    assert list(inspect.signature(get_learning_rate).parameters) == ["scheduler", "state"]
    assert list(inspect.signature(get_momentum).parameters) == ["scheduler", "state"]
    assert list(inspect.signature(normalized_gradient).parameters) == ["opts", "state", "weight", "grad"]


def test_the_state_counts_from_zero() -> None:
    state = OptimizationState(32)
    assert (state.batch_size, state.curr_epoch, state.curr_batch, state.curr_iter) == (32, 0, 0, 0)
    assert OptimizationState is schedules.OptimizationState


def test_schedulers_are_the_page_s_formulas() -> None:
    for epoch in range(5):
        for iteration in range(0, 50, 7):
            state = OptimizationState(8, curr_epoch=epoch, curr_iter=iteration)
            assert get_learning_rate(LearningRate.Fixed(0.3), state) == 0.3
            for gamma, power in ((0.9, 0.5), (0.5, 0.0), (0.25, 2.0)):
                for on_iteration, t in ((False, epoch), (True, iteration)):
                    exp = LearningRate.Exp(0.3, gamma=gamma, decay_on_iteration=on_iteration)
                    assert get_learning_rate(exp, state) == pytest.approx(0.3 * gamma**t, rel=1e-15)
                    inv = LearningRate.Inv(0.3, gamma=gamma, power=power, decay_on_iteration=on_iteration)
                    assert get_learning_rate(inv, state) == pytest.approx(0.3 * (1 + gamma * t) ** -power, rel=1e-15)
    assert get_momentum(Momentum.Null(), state) == 0.0
    assert get_momentum(Momentum.Fixed(0.7), state) == 0.7


def test_the_page_s_example() -> None:
    """η = 10, W = [1, 2, 3, 4], ∇W = [.1, .2, .3, .4], no decay: the step is −η·∇W."""
    update = get_updater(SGD(lr=10, weight_decay=0))
    w, grad = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.2, 0.3, 0.4])
    before, start = digest(grad), w.copy()
    update(1, grad, w)
    np.testing.assert_allclose(w - start, -10 * grad, rtol=1e-15)
    assert digest(grad) == before


MADE = [
    ("sgd", lambda **o: SGD(**o), {}, {}),
    ("sgd", lambda **o: SGD(**o), {"lr": 0.1, "weight_decay": 0.01}, {"learning_rate": 0.1, "weight_decay": 0.01}),
    ("sgd", lambda **o: SGD(**o), {"grad_clip": 0.5}, {"clip": 0.5}),
    ("momentum", lambda **o: SGD(**o), {"momentum": 0.9}, {}),
    (
        "momentum",
        lambda **o: SGD(**o),
        {"momentum_scheduler": Momentum.Fixed(0.5), "momentum": 0.9, "grad_clip": 2, "weight_decay": 0},
        {"momentum": 0.5, "clip": 2.0, "weight_decay": 0.0},
    ),
    ("adam", lambda **o: ADAM(**o), {}, {}),
    (
        "adam",
        lambda **o: ADAM(**o),
        {"lr": 0.1, "beta1": 0.0, "beta2": 0.9, "epsilon": 1e-3, "grad_clip": 1, "weight_decay": 0.01},
        {"learning_rate": 0.1, "beta1": 0.0, "beta2": 0.9, "epsilon": 1e-3, "clip": 1.0, "weight_decay": 0.01},
    ),
]


@pytest.mark.parametrize(("rule", "make", "arguments", "hyper"), MADE)
def test_a_thousand_updates_are_the_page_s_formula(
    rule: str, make: Any, arguments: dict[str, Any], hyper: dict[str, Any]
) -> None:
    print("seed 21")
    start, grads = oracles.recorded(21)
    update, w, points = get_updater(make(**arguments)), start.copy(), []
    for grad in grads:
        before = digest(grad)
        update("w", grad, w)
        assert digest(grad) == before
        points.append(w.copy())
    assert oracles.distance(np.array(points), oracles.trajectory("mxnet", rule, start, grads, **hyper)) <= 1e-12


@pytest.mark.parametrize(("rule", "make"), [("sgd", SGD), ("adam", ADAM), ("momentum", SGD)])
@pytest.mark.parametrize("on_iteration", [False, True])
def test_a_thousand_updates_follow_their_schedule(rule: str, make: Any, on_iteration: bool) -> None:
    """ADAM, too, whose peer froze its rate when the state was made."""
    print("seed 22")
    start, grads = oracles.recorded(22)
    scheduler = LearningRate.Inv(0.1, gamma=0.5, decay_on_iteration=on_iteration)
    optimizer = make(lr=77.0, lr_scheduler=scheduler, **({"momentum": 0.9} if rule == "momentum" else {}))
    optimizer.state = OptimizationState(batch_size=1)
    update, w, points, expected = get_updater(optimizer), start.copy(), [], []
    for t, grad in enumerate(grads, start=1):
        optimizer.state.curr_iter = t
        optimizer.state.curr_epoch = 1 + (t - 1) // 100
        expected.append(0.1 * (1 + 0.5 * (t if on_iteration else optimizer.state.curr_epoch)) ** -0.5)
        update("w", grad, w)
        points.append(w.copy())
    found = oracles.trajectory("mxnet", rule, start, grads, rates=expected)
    assert oracles.distance(np.array(points), found) <= 1e-12


def test_the_gradient_is_that_of_the_mean_of_the_batch() -> None:
    sgd = SGD(lr=1, grad_clip=0.5, weight_decay=0.25)
    sgd.state = OptimizationState(batch_size=8)
    w = np.array([4.0, 4.0])
    get_updater(sgd)("w", np.array([2.0, 80.0]), w)
    np.testing.assert_array_equal(w, [4 - (2 / 8 + 1), 4 - (0.5 + 1)])
    half = AbstractOptimizerOptions(grad_scale=0.5)
    np.testing.assert_array_equal(normalized_gradient(half, sgd.state, w, np.array([2.0, 4.0])), [1.0, 2.0])


# ------------------------------------------------------------------ schedulers override, and touch nothing else


def test_schedulers_override_the_numbers() -> None:
    options = {"lr": 5.0, "momentum": 0.9, "weight_decay": 0}
    sgd = SGD(lr_scheduler=LearningRate.Fixed(0.5), momentum_scheduler=Momentum.Null(), **options)
    assert rates(sgd, 1, 3) == [0.5] * 3


def test_the_first_update_of_epoch_one_has_gone_one_step_down() -> None:
    """As the page counts: during the first pass the epoch is 1, so the rate is η₀·γ¹."""
    exp = SGD(lr_scheduler=LearningRate.Exp(1.0, gamma=0.5), weight_decay=0)
    assert rates(exp, 3, 2) == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    each = SGD(lr_scheduler=LearningRate.Exp(1.0, gamma=0.5, decay_on_iteration=True), weight_decay=0)
    assert rates(each, 2, 2) == [0.5, 0.25, 0.125, 0.0625]
    assert get_learning_rate(LearningRate.Exp(1.0), OptimizationState(1)) == 1.0


def test_several_keys_in_an_iteration_count_nothing() -> None:
    optimizer = ADAM(lr_scheduler=LearningRate.Exp(1.0, gamma=0.5, decay_on_iteration=True), weight_decay=0)
    optimizer.state = OptimizationState(batch_size=4, curr_epoch=2, curr_batch=3, curr_iter=5)
    update = get_updater(optimizer)
    found = {key: np.zeros(2) for key in (1, 2, "bias")}
    for key, weight in found.items():
        update(key, -np.ones(2), weight)
    assert optimizer.state == OptimizationState(batch_size=4, curr_epoch=2, curr_batch=3, curr_iter=5)
    for weight in found.values():
        np.testing.assert_allclose(weight, 0.5**5, rtol=1e-7)


def test_constructing_a_scheduler_changes_no_optimizer() -> None:
    sgd = SGD(momentum=0.9)
    update, w = get_updater(sgd), np.ones(1)
    update("w", np.ones(1), w)
    opts, state, saved = copy.copy(sgd.opts), sgd.state.copy(), update.state()
    LearningRate.Exp(1.0), LearningRate.Inv(2.0), Momentum.Fixed(0.1), LearningRate.Fixed(3.0)
    scheduler = LearningRate.Exp(1.0)
    SGD(lr_scheduler=scheduler, momentum_scheduler=Momentum.Null())
    get_learning_rate(scheduler, sgd.state)
    assert (sgd.opts, sgd.state) == (opts, state)
    assert update.state().meta == saved.meta
    with pytest.raises(AttributeError):
        scheduler.lr = 3.0  # type: ignore[misc]


def test_a_scheduler_changes_no_state_s_structure() -> None:
    plain, scheduled = get_updater(ADAM()), get_updater(ADAM(lr_scheduler=LearningRate.Exp(1.0)))
    for update in (plain, scheduled):
        update("w", np.ones(2), np.ones(2))
    assert plain.state().arrays.keys() == scheduled.state().arrays.keys()


@pytest.mark.parametrize("momentum", [0, 0.0])
@pytest.mark.parametrize("scheduler", [None, Momentum.Null(), Momentum.Fixed(0)])
def test_no_momentum_takes_no_memory(momentum: float, scheduler: Any) -> None:
    update = get_updater(SGD(momentum=momentum, momentum_scheduler=scheduler))
    update("w", np.ones(2), np.ones(2))
    assert update.state().arrays == {}
    update = get_updater(SGD(momentum=0.5))
    update("w", np.ones(2), np.ones(2))
    assert list(update.state().arrays) == ["slots/velocity/w"]


def test_schedulers_of_one_s_own() -> None:
    class Warm(AbstractLearningRateScheduler):
        def get_learning_rate(self, state: OptimizationState) -> float:
            return min(1.0, state.curr_iter / 4)

    class Late(AbstractMomentumScheduler):
        def get_momentum(self, state: OptimizationState) -> float:
            return 0.0 if state.curr_iter < 3 else 0.5

    sgd = SGD(lr_scheduler=Warm(), momentum_scheduler=Late(), weight_decay=0)
    update, w, found = get_updater(sgd), np.zeros(1), []
    for iteration in range(1, 5):
        sgd.state.curr_iter = iteration
        update("w", -np.ones(1), w)
        found.append(float(w[0]))
    assert found == [0.25, 0.75, 0.75 + 0.25 + 0.75, 1.75 + 0.5 + 1.0]

    class Wrong(AbstractLearningRateScheduler):
        def get_learning_rate(self, state: OptimizationState) -> float:
            return -1.0

    with pytest.raises(HyperparameterError, match=r"learning rate is -1\.0"):
        get_updater(SGD(lr_scheduler=Wrong()))("w", np.ones(1), np.ones(1))


def test_an_optimizer_of_one_s_own() -> None:
    class AdaGrad(AbstractOptimizer):
        def recipe(self) -> tw.LocalOptimizer:
            return tw.AdaGrad(convention="mxnet", weight_decay=0.0)

        def current(self) -> dict[str, float]:
            return {"learning_rate": 0.1}

    start, grads = oracles.recorded(23, steps=50)
    update, w = get_updater(AdaGrad(AbstractOptimizerOptions(weight_decay=1e-5))), start.copy()
    for grad in grads:
        update("w", grad, w)
    expected = oracles.trajectory("mxnet", "adagrad", start, grads)
    assert oracles.distance(w[None], expected[-1:]) <= 1e-12
    with pytest.raises(TypeError, match="abstract"):
        AbstractOptimizer(AbstractOptimizerOptions())  # type: ignore[abstract]


# ------------------------------------------------------------------ checkpoints


def train(optimizer: AbstractOptimizer, update: Any, found: dict[Any, np.ndarray], epochs: range) -> None:
    """Three batches an epoch, two keys, counted by the loop as the page says."""
    for epoch in epochs:
        optimizer.state.begin_epoch()
        for batch in range(3):
            optimizer.state.begin_batch()
            optimizer.state.begin_step()
            for key, weight in found.items():
                update(key, np.random.default_rng([epoch, batch, len(key)]).normal(size=weight.shape), weight)


@pytest.mark.parametrize("on_iteration", [False, True])
@pytest.mark.parametrize(("make", "options"), [(ADAM, {}), (SGD, {"momentum": 0.9}), (SGD, {})])
def test_a_resumed_training_is_the_same_to_the_last_bit(
    make: Any, options: dict[str, Any], on_iteration: bool, tmp_path: Path
) -> None:
    """Not one epoch late, nothing counted twice, and no moment lost."""

    def start() -> tuple[AbstractOptimizer, Any, dict[Any, np.ndarray]]:
        scheduler = LearningRate.Exp(0.1, gamma=0.5, decay_on_iteration=on_iteration)
        optimizer = make(lr_scheduler=scheduler, **options)
        optimizer.state = OptimizationState(batch_size=2)
        return optimizer, get_updater(optimizer), {"w": np.ones((2, 2)), "bias": np.ones(3)}

    whole, whole_update, through = start()
    train(whole, whole_update, through, range(4))
    first, first_update, found = start()
    train(first, first_update, found, range(2))
    first_update.dump(tmp_path)
    second, second_update, _ = start()
    second_update.load(tmp_path)
    assert second.state == OptimizationState(batch_size=2, curr_epoch=2, curr_batch=3, curr_iter=6)
    train(second, second_update, found, range(2, 4))
    for key, weight in found.items():
        assert weight.tobytes() == through[key].tobytes()
    assert second.state == whole.state


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    update, adam = get_updater(SGD(momentum=0.5)), get_updater(ADAM())
    update("w", np.ones(2), np.ones(2))
    update.dump(tmp_path)
    for other in (adam, get_updater(SGD())):
        with pytest.raises(StateMismatchError, match="nothing was changed"):
            other.load(tmp_path)
    assert adam.state().arrays == {}


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(lr=-1.0),
        lambda: SGD(lr=np.nan),
        lambda: SGD(momentum=1.0),
        lambda: SGD(momentum=-0.5),
        lambda: SGD(grad_clip=-1.0),
        lambda: SGD(weight_decay=-1e-4),
        lambda: SGD(weight_decay="small"),
        lambda: SGD(lr_scheduler=0.1),
        lambda: SGD(lr_scheduler=schedules.Exp(1.0)),
        lambda: SGD(lr_scheduler=Momentum.Null()),
        lambda: SGD(momentum_scheduler=LearningRate.Fixed(0.1)),
        lambda: ADAM(beta1=1.0),
        lambda: ADAM(beta2=1.5),
        lambda: ADAM(epsilon=0.0),
        lambda: ADAM(lr=True),
        lambda: ADAM(lr_scheduler=lambda state: 0.1),
        lambda: LearningRate.Fixed(-0.1),
        lambda: LearningRate.Exp(1.0, gamma=1.0),
        lambda: LearningRate.Exp(1.0, gamma=0.0),
        lambda: LearningRate.Exp(np.inf),
        lambda: LearningRate.Exp(1.0, decay_on_iteration=1),  # type: ignore[arg-type]
        lambda: LearningRate.Inv(1.0, gamma=1.5),
        lambda: LearningRate.Inv(1.0, power=-0.5),
        lambda: Momentum.Fixed(1.0),
        lambda: AbstractOptimizerOptions(grad_scale=np.nan),
        lambda: get_updater(tw.Adam()),  # type: ignore[arg-type]
        lambda: get_updater(SGD),  # type: ignore[arg-type]
        lambda: get_learning_rate(Momentum.Null(), OptimizationState(1)),  # type: ignore[arg-type]
        lambda: get_momentum(LearningRate.Fixed(1.0), OptimizationState(1)),  # type: ignore[arg-type]
        lambda: setattr(SGD(), "state", 3),
    ],
)
def test_bad_arguments_are_refused(make: Any) -> None:
    with pytest.raises(HyperparameterError):
        make()


def test_an_update_that_is_refused_changes_nothing() -> None:
    adam = ADAM(grad_clip=1.0)
    update, w = get_updater(adam), np.ones(2)
    update("w", np.ones(2), w)
    before, state = w.copy(), update.state()
    for grad, error in (
        (np.array([1.0, np.inf]), NonFiniteGradientError),
        (np.ones(1), GradientShapeError),
        (np.ones(2, "f4"), GradientDtypeError),
        (None, GradientDtypeError),
    ):
        with pytest.raises(error):
            update("w", grad, w)  # type: ignore[arg-type]
        np.testing.assert_array_equal(w, before)
        assert update.state().meta == state.meta
        assert all(np.array_equal(update.state().arrays[name], array) for name, array in state.arrays.items())
    for weight in (np.ones(3), np.ones(2, "f4"), [1.0, 1.0]):
        with pytest.raises(ParameterError, match="key 'w'"):
            update("w", np.ones(2), weight)  # type: ignore[arg-type]


def test_float32_stays_float32() -> None:
    w = np.ones(2, "f4")
    get_updater(ADAM(grad_clip=0.1))("w", np.ones(2, "f4"), w)
    assert w.dtype == np.float32
    np.testing.assert_allclose(w, 0.999, rtol=1e-6)


@pytest.mark.parametrize(("make", "names"), [(SGD, ("lr", "momentum")), (ADAM, ("lr", "beta1", "epsilon"))])
def test_a_number_set_on_the_optimizer_later_is_refused_and_other_options_hold(make, names):
    optimizer = make(weight_decay=0)
    for name in (*names, "weight_decay", "grad_clip"):
        with pytest.raises(HyperparameterError, match=f"{name} cannot be set"):
            setattr(optimizer, name, 0.5)
    optimizer.note = "of the user's own"
    w = np.array([1.0])
    optimizer.opts = make(lr=0.5, weight_decay=0).opts
    get_updater(optimizer)("w", np.array([1.0]), w)
    assert w[0] == pytest.approx(0.5, abs=1e-7)


def moved(optimizer: AbstractOptimizer, update: Any = None) -> float:
    """By how much an update with a gradient of 1 changes a weight."""
    w = np.zeros(1)
    (update or get_updater(optimizer))("w", np.ones(1), w)
    return float(w[0])


def test_options_that_need_another_state_are_refused_when_they_are_set() -> None:
    without, with_momentum = SGD(lr=1, weight_decay=0), SGD(lr=1, momentum=0.5, weight_decay=0)
    for optimizer, other in ((without, with_momentum), (with_momentum, without)):  # the one with momentum is the last
        update, kept, options = get_updater(optimizer), optimizer.opts, copy.copy(other.opts)
        assert moved(optimizer, update) == -1.0
        for owner in (optimizer, copy.deepcopy(update).optimizer):
            with pytest.raises(HyperparameterError, match=r"SGD: with these options it is .*Make another optimizer"):
                owner.opts = options
            assert owner.opts == kept
    with_momentum.opts = SGD(lr=0.25, momentum=0.75, weight_decay=0).opts
    assert moved(with_momentum, update) == 0.75 * -1.0 - 0.25


def test_options_may_change_as_they_like_before_there_is_an_updater() -> None:
    sgd = SGD(lr=1, weight_decay=0)
    sgd.opts = SGD(lr=1, momentum=0.5, weight_decay=0).opts
    update = get_updater(sgd)
    assert [moved(sgd, update) for _ in range(2)] == [-1.0, -1.5]


@pytest.mark.parametrize("options", [5, None, ADAM().opts, AbstractOptimizerOptions()])
def test_options_of_another_kind_are_refused(options: Any) -> None:
    sgd = SGD()
    kept = sgd.opts
    with pytest.raises(HyperparameterError, match=r"opts is .*; give an instance of SGDOptions"):
        sgd.opts = options
    assert sgd.opts is kept


@pytest.mark.parametrize("make", [SGD, ADAM])
@pytest.mark.parametrize("name", ["learning_rate", "lr", "eta", "weight_decy", "lr_scheduler", "process_model"])
def test_what_nobody_would_read_on_the_optimizer_or_its_updater_is_refused(make: Any, name: str) -> None:
    optimizer = make()
    update = get_updater(optimizer)
    words = "knows no process_model" if name == "process_model" else f"{name} cannot be set"
    with pytest.raises(HyperparameterError, match=words):
        setattr(optimizer, name, 0.5)
    with pytest.raises(HyperparameterError, match=rf"an updater has no {name}, .*update\.optimizer\.opts to other"):
        setattr(update, name, 0.5)
    update.note = optimizer.note = "of the user's own"


def test_what_an_updater_s_error_says_can_be_done() -> None:
    sgd = SGD(lr=1, weight_decay=0)
    update = get_updater(sgd)
    with pytest.raises(HyperparameterError, match=r"set its opts to other options \(update\.optimizer\.opts = "):
        update.optimizer = sgd  # type: ignore[misc]
    assert update.optimizer is sgd
    update.optimizer.opts = SGD(lr=0.5, weight_decay=0).opts
    assert moved(sgd, update) == -0.5


def test_an_optimizer_of_one_s_own_keeps_numbers_of_its_own() -> None:
    class AdaGrad(AbstractOptimizer):
        def __init__(self, rate: float) -> None:
            super().__init__(AbstractOptimizerOptions())
            self.rate = self.learning_rate = rate
            self.epsilon = 1e-3

        def recipe(self) -> tw.LocalOptimizer:
            return tw.AdaGrad(convention="mxnet", weight_decay=0.0, epsilon=self.epsilon)

        def current(self) -> dict[str, float]:
            return {"learning_rate": self.learning_rate}

    optimizer = AdaGrad(1.0)
    update = get_updater(optimizer)
    optimizer.learning_rate = 0.5
    assert moved(optimizer, update) == pytest.approx(-0.5 / np.sqrt(1 + 1e-3))
