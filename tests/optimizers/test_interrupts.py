"""Ctrl-C in the middle of a step finds the step made or not made, at whatever line of ours it comes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.optimizers.interrupting import ctrl_c, interrupted_at
from thalweg.optimizers.interrupts import held
from thalweg.optimizers.updater import Updater

DONE: list[int] = []


@pytest.fixture(autouse=True)
def handler() -> Iterator[Any]:
    """Python's own handler is there, and after a test it is there again."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    left = signal.signal(signal.SIGINT, former)
    assert left is signal.default_int_handler


def interrupted(error: Exception | None = None) -> None:
    """What was done in spite of Ctrl-C."""
    DONE.clear()
    with held():
        DONE.append(1)
        with held():
            ctrl_c()
            DONE.append(2)
        DONE.append(3)
        if error is not None:
            raise error


def test_it_comes_at_the_end_of_what_was_held() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert DONE == [1, 2, 3]
    with held():
        pass


def test_it_comes_after_an_error_that_was_raised_meanwhile() -> None:
    error = ValueError("of the step")
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(error)
    assert caught.value.__context__ is error
    assert DONE == [1, 2, 3]


def test_a_second_one_is_not_held_back() -> None:
    def twice() -> None:
        with held():
            ctrl_c()
            DONE.append(1)
            ctrl_c()
            DONE.append(2)

    DONE.clear()
    with pytest.raises(KeyboardInterrupt):
        twice()
    assert DONE == [1]


def test_one_comes_through_where_the_end_of_what_was_held_was_never_reached() -> None:
    """The error of another signal's handler may come just there."""

    def left() -> None:
        held().__enter__()

    left()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert DONE == [1, 2, 3]


def test_a_handler_of_the_users_own_is_called_at_once() -> None:
    seen: list[tuple[int, str, int]] = []

    def mine(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        seen.append((number, frame.f_code.co_name, len(DONE)))

    signal.signal(signal.SIGINT, mine)
    interrupted()
    assert seen == [(signal.SIGINT, "ctrl_c", 1)]
    with pytest.raises(ValueError, match="of the step"):
        interrupted(ValueError("of the step"))
    assert len(seen) == 2
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is mine


@pytest.mark.parametrize("kind", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_not_python_s_is_left_alone(kind: Any) -> None:
    signal.signal(signal.SIGINT, kind)
    with held():
        assert signal.getsignal(signal.SIGINT) is kind
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is kind


def test_another_signal_is_none_of_its_business() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    former = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(TimeoutError), held():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)


def test_other_threads_hold_nothing() -> None:
    update, weight, seen = tw.get_updater(tw.Adam(learning_rate=0.5)), np.ones(2), []

    def work() -> None:
        with held():
            seen.append(signal.getsignal(signal.SIGINT))
        update("w", np.ones(2), weight)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    np.testing.assert_allclose(weight, 0.5)


def look(update: Updater, weights: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """All that decides the next updates, to be compared."""
    state = update.state()
    arrays = {name: array.tolist() for name, array in (state.arrays | weights).items()}
    counts = {name: (saved["last"], saved["state"]["updates"]) for name, saved in state.meta["keys"].items()}
    return arrays, counts, update.optimization_state.curr_iter


def quiet(grad: np.ndarray) -> np.ndarray:
    return 2.0 * grad


MADE: dict[str, dict[str, Any]] = {
    "in place": {},
    "two at a time": {"accumulate": 2},
    "bounded": {"process_grad": tw.transforms.scale(2.0), "process_model": tw.transforms.bounds(-9.0, 9.0)},
    "decaying": {"learning_rate": tw.schedules.Exp(0.5, gamma=0.5, decay_on_iteration=True)},
}


@pytest.mark.parametrize(
    ("kind", "first", "stride"),
    [
        *[("in place", 0, 7), ("in place", 3, 1), ("two at a time", 0, 3), ("two at a time", 1, 3)],
        *[("bounded", 3, 3), ("decaying", 1, 4)],
    ],
)
def test_an_update_is_made_or_not(kind: str, first: int, stride: int) -> None:
    def begun() -> tuple[Updater, dict[str, np.ndarray], Callable[[], None]]:
        update, weights = tw.get_updater(tw.Nadam(**MADE[kind])), {"a": np.ones(3), "b": np.ones(2)}

        def step() -> None:
            update("a", np.full(3, 0.5), weights["a"])

        update("b", np.ones(2), weights["b"])
        for _ in range(first):
            step()
        return update, weights, step

    update, weights, step = begun()
    wanted = [look(update, weights)]
    for _ in range(3):
        step()
        wanted.append(look(update, weights))
    line, going = 0, True
    while going:
        update, weights, step = begun()
        assert look(update, weights) == wanted[0]
        going = interrupted_at(line, step)
        made = wanted.index(look(update, weights))
        assert made in (0, 1)
        step()
        assert look(update, weights) == wanted[made + 1], line
        step()
        assert look(update, weights) == wanted[made + 2], line
        line += stride
    assert line > 20


def test_an_update_with_a_function_of_the_users_own_is_counted_if_it_was_made() -> None:
    """An event loop runs it, which is told to stop when the step is made already."""

    class Late(tw.SGD):
        async def step(self, *given: Any, **named: Any) -> Any:
            found = await super().step(*given, **named)
            ctrl_c()
            await asyncio.sleep(60)
            return found

    update, weight = tw.get_updater(Late(learning_rate=0.25, process_grad=quiet)), np.ones(2)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            update("w", np.ones(2), weight)
        assert weight.tolist() == [1.0 - 0.5 * number] * 2
        assert update.optimization_state.curr_iter == number
        assert update.names == ("w",)


def test_an_update_that_a_hook_of_the_users_own_interrupts_is_made_or_not() -> None:
    def interrupting(grad: np.ndarray) -> np.ndarray:
        if grad[0] > 1.0:
            ctrl_c()
        return grad

    update, weight = tw.get_updater(tw.SGD(learning_rate=0.25, process_grad=interrupting)), np.ones(2)
    update("w", np.ones(2), weight)
    with pytest.raises(KeyboardInterrupt):
        update("w", np.full(2, 2.0), weight)
    assert (weight.tolist(), update.optimization_state.curr_iter) in (([0.75] * 2, 1), ([0.25] * 2, 2))
