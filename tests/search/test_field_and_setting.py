"""One run, two kinds of feedback: a field follows its gradient, a setting its reward.

A signal is seen through a blur and noise (docs/structured.md has waves). The field is fitted to every other sample,
smoothed over a length and for a number of steps that are a setting; the samples in between judge the setting.
"""

import json

import numpy as np
import pytest

import thalweg as tw
from thalweg.search import Search, StructuredVariable

COUNT = 120
PLACES = np.arange(COUNT)
TRUTH = np.exp(-((PLACES - 40) ** 2) / (2 * 6.0**2)) - 0.7 * np.exp(-((PLACES - 80) ** 2) / (2 * 4.0**2))
SCHEMA = {
    "type": "object",
    "properties": {
        "length": {"type": "number", "minimum": 0.1, "maximum": 20.0, "x-scale": "log"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 40},
    },
    "required": ["length", "steps"],
}
DEFAULT = {"length": 12.0, "steps": 5}


def smooth(length):
    return tw.transforms.smooth(length)


class Predict(tw.Operator):
    """The smoothed field, seen through a blur of two samples."""

    def forward(self, field, setting):
        return tw.Variable(smooth(2.0)(smooth(setting.get("length"))(field.data)))

    def adjoint(self, grad, field, setting):
        return smooth(setting.get("length")).adjoint(smooth(2.0).adjoint(grad)), None


class Misfit(tw.Operator):
    def forward(self, seen, data, which):
        return tw.Variable(0.5 * np.sum((seen.data - data)[which] ** 2))

    def adjoint(self, grad, seen, data, which):
        residual = np.zeros(COUNT)
        residual[which] = (seen.data - data)[which]
        return grad * residual


def noisy(seed):
    return smooth(2.0)(TRUTH) + 0.3 * np.random.default_rng(seed).standard_normal(COUNT)


async def misfit_of(field, setting, data, which):
    return await Misfit()(await Predict()(field, setting), data, which)


async def fit(field, setting, data):
    field.data = np.zeros(COUNT)
    optimizer = tw.GradientDescent(field, learning_rate=1.5)
    for _ in range(setting.get("steps")):
        optimizer.clear_grad()
        await (await misfit_of(field, setting, data, slice(0, None, 2))).adjoint()
        await optimizer.step()


async def judged(field, setting, data):
    return -float((await misfit_of(field.detach(), setting, data, slice(1, None, 2))).data)


async def evaluate(search, field, setting, data, count):
    rewards = []
    for _ in range(count):
        await fit(field, setting, data)
        rewards.append(await judged(field, setting, data))
        await search.apply_optimization([field, setting], reward=rewards[-1])
    return rewards


def made():
    field = tw.Variable(np.zeros(COUNT), name="field", needs_grad=True)
    return field, StructuredVariable(DEFAULT, SCHEMA, name="setting")


def error_of(field, setting):
    return float(np.linalg.norm(smooth(setting.get("length"))(field.data) - TRUTH) / np.linalg.norm(TRUTH))


def test_the_adjoint_is_right_for_every_setting():
    for length in (0.1, 1.0, 20.0):
        field, setting = made()
        setting.update({"length": length})
        assert tw.check_adjoint(Predict(), field, setting).ok


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_setting_that_was_found_beats_the_default_on_what_it_was_not_fitted_to(kind, seed):
    async def run():
        field, setting = made()
        data = noisy(seed)
        search = Search(kind, seed=seed)
        rewards = await evaluate(search, field, setting, data, 40)
        await search.finalize_variable_values([field, setting])
        await fit(field, setting, data)
        fresh = noisy(100 + seed)  # the same signal with other noise: nobody has chosen by it
        found = (await judged(field, setting, data), await judged(field, setting, fresh), error_of(field, setting))
        default = StructuredVariable(DEFAULT, SCHEMA)
        await fit(field, default, data)
        given = (await judged(field, default, data), await judged(field, default, fresh), error_of(field, default))
        return rewards, found, given

    rewards, found, given = tw.wait(run())
    assert rewards[0] == given[0]  # the default is the first candidate
    assert found[0] == max(rewards)
    assert found[0] > given[0]
    assert found[1] > given[1]
    assert found[2] < 0.8 * given[2]


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution"])
def test_a_run_that_was_saved_in_the_middle_goes_on_to_the_same_bits(kind):
    async def whole():
        field, setting = made()
        search = Search(kind, seed=3)
        return await evaluate(search, field, setting, noisy(0), 20), setting.json(), field.data

    async def in_two_parts():
        field, setting = made()
        search = Search(kind, seed=3)
        first = await evaluate(search, field, setting, noisy(0), 13)
        store = {}
        search.save_own_variables(store)
        saved = json.dumps([search.get_config(), store, setting.json()])
        config, store, value = json.loads(saved)
        field, setting = made()
        again = Search.from_config(config)
        again.bind([setting])
        again.load_own_variables(store)
        setting.assign(value)
        return first + await evaluate(again, field, setting, noisy(0), 7), setting.json(), field.data

    one, other = tw.wait(whole()), tw.wait(in_two_parts())
    assert one[0] == other[0]
    assert one[1] == other[1]
    assert np.array_equal(one[2], other[2])
