"""The oracles themselves: published numbers, agreement where formulas are the same, disagreement where they are not."""

import itertools

import numpy as np
import pytest

from tests.references import libraries, oracles

SAME = {"learning_rate": 0.01}
ADAM = SAME | {"epsilon": 1e-8}


@pytest.fixture(scope="module")
def record():
    print("seed 3")
    return oracles.recorded(3)


def points(record, entry, rates=None, **hyper):
    """The trajectory for (library, rule, hyperparameters of this library alone)."""
    library, rule, *own = entry
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    start, grads = record
    return oracles.trajectory(library, rule, start, grads, rates=rates, **hyper, **(own[0] if own else {}))


# ------------------------------------------------------------------ published numbers

ROWS = {
    "adamax": [
        [0.8] * 10,
        [0.6827, 0.6873, 0.6888, 0.6896, 0.6901, 0.6904, 0.6906, 0.6908, 0.6909, 0.691],
        [0.5333, 0.5407, 0.5431, 0.5444, 0.5451, 0.5456, 0.546, 0.5462, 0.5464, 0.5466],
        [0.368, 0.3773, 0.3804, 0.382, 0.3829, 0.3835, 0.384, 0.3843, 0.3846, 0.3848],
        [0.1933, 0.204, 0.2076, 0.2094, 0.2105, 0.2112, 0.2117, 0.2121, 0.2124, 0.2126],
    ],
    "adagrad": [
        [0.9963] * 10,
        [0.9604, 0.9278, 0.9003, 0.8784, 0.8615, 0.8487, 0.8388, 0.8313, 0.8255, 0.8209],
        [0.9251, 0.8629, 0.8137, 0.7768, 0.7497, 0.7298, 0.7151, 0.704, 0.6956, 0.6891],
        [0.8903, 0.8012, 0.7342, 0.6862, 0.6521, 0.6277, 0.6099, 0.5967, 0.5867, 0.579],
        [0.856, 0.7422, 0.6604, 0.6037, 0.5644, 0.5367, 0.5168, 0.5021, 0.491, 0.4825],
    ],
    "amsgrad": [[x] * 10 for x in (0.999, 0.9982, 0.9974, 0.9965, 0.9955)],
    "adadelta": [[x] * 10 for x in (0.9978, 0.9947, 0.9915, 0.9882, 0.9849)],
    "rmsprop": [[x] * 10 for x in (0.9967, 0.9933, 0.9908, 0.9885, 0.9864)],
}
PRINTED = {
    "amsgrad": {"learning_rate": 1e-3, "epsilon": 1e-7},
    "adadelta": {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-6},
    "rmsprop": {"learning_rate": 1e-3, "rho": 0.9, "epsilon": 1e-7, "centered": True},
    "adamax": {"learning_rate": 0.2, "beta1": 0.85, "beta2": 0.95, "epsilon": 1e-6},
    "adagrad": {"learning_rate": 0.2, "initial_accumulator": 0.3, "epsilon": 1e-6},
}


@pytest.mark.parametrize(
    ("library", "rule", "own"),
    [("keras", rule, {}) for rule in ROWS]
    + [
        ("pycmtensor", "adadelta", {}),
        ("pycmtensor", "adamax", {}),
        ("mxnet", "adamax", {"weight_decay": 0.0}),
        ("paper", "adadelta", {}),
        ("paper", "adamax", {}),
        ("paper", "adagrad", {}),
        ("paper", "rmsprop", {"epsilon_inside": True}),
        ("optax", "adagrad", {}),
        ("optax", "rmsprop", {}),
        ("torch", "adagrad", {}),
    ],
)
def test_keras_prints_these_numbers(library, rule, own):
    ramp = np.arange(1, 11) / 10
    record = np.ones(10), np.array([np.full(10, 0.01), ramp, ramp, ramp, ramp])
    x = points(record, (library, rule, PRINTED[rule] | own))
    np.testing.assert_allclose(x, ROWS[rule], rtol=0, atol=1.4e-4 if rule == "amsgrad" else 6e-5)


def test_an_epsilon_outside_the_root_moves_tiny_gradients_150_times_as_far():
    record = np.zeros(1), np.full((10, 1), 1e-6)
    hyper = {"learning_rate": 0.01, "epsilon": 1e-7}
    inside = points(record, ("pycmtensor", "adagrad"), **hyper)[-1]
    outside = points(record, ("paper", "adagrad"), **hyper)[-1]
    np.testing.assert_allclose([*inside, *outside], [-0.000316219, -0.0474663], rtol=1e-5)


def test_mxnet_has_this_example():
    start = np.array([1.0, 2.0, 3.0, 4.0])
    x = oracles.trajectory("mxnet", "sgd", start, [start / 10], learning_rate=10.0, weight_decay=0.0)
    np.testing.assert_allclose(x - start, [-start], rtol=0, atol=1e-15)


def test_mxnet_decays_after_clipping():
    x = oracles.trajectory("mxnet", "sgd", [2.0], [[9.0]], learning_rate=1.0, weight_decay=0.25, clip=1.0)
    assert x.tolist() == [[0.5]]


def test_pycmtensor_has_this_check():
    beta = oracles.trajectory("pycmtensor", "sgd", [2.0], [[4.0]], learning_rate=1.0)[-1, 0]
    assert beta == -2
    assert beta * 4 + 3 == -5


# ------------------------------------------------------------------ the same formula, or not

NO_DECAY = {"weight_decay": 0.0}
ZERO = {"initial_accumulator": 0.0}
INSIDE = {"epsilon_inside": True}
# Each line: hyperparameters, then who computes the same from them.
AGREE = [
    (SAME, [("paper", "sgd"), ("torch", "sgd"), ("optax", "sgd"), ("keras", "sgd"), ("mxnet", "sgd", NO_DECAY)]),
    (SAME, [("paper", "sgd"), ("pycmtensor", "sgd")]),
    (SAME, [("paper", "momentum"), ("torch", "momentum"), ("optax", "momentum"), ("keras", "momentum")]),
    (SAME, [("paper", "momentum"), ("mxnet", "momentum", NO_DECAY), ("pycmtensor", "momentum", {"nesterov": False})]),
    (SAME, [("paper", "nesterov"), ("torch", "nesterov"), ("optax", "nesterov"), ("keras", "nesterov")]),
    (SAME, [("paper", "nesterov"), ("pycmtensor", "momentum"), ("pycmtensor", "nesterov")]),
    (ADAM, [("paper", "adagrad"), ("torch", "adagrad")]),
    (ADAM, [("pycmtensor", "adagrad"), ("optax", "adagrad", ZERO), ("keras", "adagrad", ZERO)]),
    (ADAM, [("pycmtensor", "adagrad"), ("mxnet", "adagrad", NO_DECAY)]),
    (ADAM | {"rho": 0.9}, [("pycmtensor", "rmsprop"), ("mxnet", "rmsprop", NO_DECAY), ("paper", "rmsprop", INSIDE)]),
    *(
        (ADAM | {"rho": 0.9, "centered": centered, "momentum": momentum}, alike)
        for centered, momentum in itertools.product((False, True), (0.0, 0.9))
        for alike in (
            [("paper", "rmsprop"), ("torch", "rmsprop")],
            [("paper", "rmsprop", INSIDE), ("optax", "rmsprop"), ("keras", "rmsprop")],
        )
    ),
    (ADAM | {"rho": 0.95}, [("paper", "adadelta"), ("torch", "adadelta"), ("optax", "adadelta")]),
    (ADAM | {"rho": 0.95}, [("paper", "adadelta"), ("keras", "adadelta"), ("pycmtensor", "adadelta")]),
    (ADAM, [("paper", "adam"), ("torch", "adam"), ("optax", "adam"), ("mxnet", "adam", NO_DECAY)]),
    (ADAM, [("pycmtensor", "adam"), ("keras", "adam"), ("mxnet", "adam", NO_DECAY | {"epsilon_hat": True})]),
    (
        ADAM | {"weight_decay": 0.02},
        [("paper", "adamw", {"rate_scales_decay": True}), ("torch", "adamw"), ("optax", "adamw")],
    ),
    (ADAM | {"weight_decay": 0.02}, [("keras", "adam"), ("keras", "adamw")]),
    (ADAM, [("paper", "adamax"), ("torch", "adamax"), ("optax", "adamax")]),
    (ADAM, [("pycmtensor", "adamax"), ("keras", "adamax"), ("mxnet", "adamax", NO_DECAY)]),
    (ADAM, [("paper", "nadam"), ("torch", "nadam")]),
    (SAME | {"weight_decay": 0.02}, [("paper", "lion"), ("optax", "lion"), ("keras", "lion")]),
    (SAME, [("paper", "rprop"), ("torch", "rprop")]),
    (ADAM | {"weight_decay": 0.02}, [("paper", "lamb"), ("optax", "lamb")]),
    (ADAM | NO_DECAY, [("paper", "lamb"), ("keras", "lamb")]),
]
# Each line: hyperparameters, then those of whom no two compute the same.
DISAGREE = [
    (ADAM | ZERO, [("paper", "adagrad"), ("keras", "adagrad")]),
    (ADAM, [("torch", "rmsprop"), ("keras", "rmsprop")]),
    (ADAM | {"centered": True}, [("torch", "rmsprop"), ("optax", "rmsprop")]),
    (ADAM, [("torch", "adam"), ("keras", "adam")]),
    (ADAM, [("mxnet", "adam"), ("mxnet", "adam", {"epsilon_hat": True})]),
    (ADAM, [("torch", "adamax"), ("keras", "adamax")]),
    (ADAM, [("paper", "amsgrad"), ("torch", "amsgrad"), ("optax", "amsgrad"), ("keras", "amsgrad")]),
    (
        ADAM,
        [("torch", "nadam"), ("optax", "nadam"), ("keras", "nadam"), ("paper", "nadam", {"scheduled_average": True})],
    ),
    (ADAM, [("paper", "radam"), ("torch", "radam"), ("optax", "radam")]),
    (SAME, [("torch", "rprop"), ("optax", "rprop")]),
    (SAME, [("pycmtensor", "momentum"), ("pycmtensor", "momentum", {"nesterov": False})]),
    (
        ADAM | {"weight_decay": 0.02},
        [("torch", "adam"), ("keras", "adam"), ("torch", "adamw"), ("paper", "adamw")],
    ),
    (SAME | {"weight_decay": 0.02}, [("torch", "momentum"), ("keras", "momentum")]),
    (ADAM | {"weight_decay": 0.02}, [("optax", "lamb"), ("keras", "lamb")]),
    (ADAM | {"weight_decay": 0.02}, [(each, "schedule_free_adamw") for each in ("paper", "optax", "keras")]),
    (ADAM | {"warmup_steps": 50}, [(each, "schedule_free_adamw") for each in ("paper", "optax", "keras")]),
]


def named(lines):
    return [f"{entries[0][1]}-{'-'.join(entry[0] for entry in entries)}-{'-'.join(hyper)}" for hyper, entries in lines]


@pytest.mark.parametrize(("hyper", "entries"), AGREE, ids=named(AGREE))
def test_the_same_formula_gives_the_same(record, hyper, entries):
    first, *others = (points(record, entry, **hyper) for entry in entries)
    for other in others:
        assert oracles.distance(other, first) < 1e-12


@pytest.mark.parametrize(("hyper", "entries"), DISAGREE, ids=named(DISAGREE))
def test_a_different_formula_is_seen(record, hyper, entries):
    start, grads = record
    every = [points((start, grads[:300]), entry, **hyper) for entry in entries]
    for one, other in itertools.combinations(every, 2):
        assert oracles.distance(one, other) > 1e-7


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (("paper", "momentum"), ("torch", "momentum")),
        (("mxnet", "momentum", NO_DECAY), ("optax", "momentum")),
        (("pycmtensor", "nesterov"), ("torch", "nesterov")),
        (("keras", "momentum"), ("optax", "momentum")),
        (
            ("optax", "rmsprop", {"momentum": 0.9, "epsilon": 0.0}),
            ("torch", "rmsprop", {"momentum": 0.9, "epsilon": 0.0}),
        ),
        (("keras", "rmsprop", {"momentum": 0.9}), ("keras", "rmsprop", {"momentum": 0.0})),
    ],
)
def test_a_schedule_tells_where_the_rate_is(record, inside, outside):
    record = record[0], np.where(record[1] == 0, 1e-9, record[1])  # no 0/0 where there is no epsilon
    rates = 0.01 / np.sqrt(1 + np.arange(1000) / 10)
    one, other = (points(record, entry, rates) for entry in (inside, outside))
    assert oracles.distance(one, other) > 1e-4


@pytest.mark.parametrize("library", ["torch", "optax", "keras", "mxnet", "pycmtensor", "paper"])
def test_every_rule_follows_a_schedule_or_says_that_it_has_none(library):
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    print("seed 5")
    start, grads = oracles.recorded(5, steps=20, size=6, low=-2, high=2)
    for rule in oracles.AVAILABLE[library]:
        constant = oracles.trajectory(library, rule, start, grads, learning_rate=0.01)
        assert constant.shape == (20, 6)
        assert np.isfinite(constant).all()
        if rule == "rprop":
            continue
        flat = oracles.trajectory(library, rule, start, grads, rates=np.full(20, 0.01), learning_rate=0.01)
        assert oracles.distance(flat, constant) < 1e-14, rule
        halved = oracles.trajectory(library, rule, start, grads, rates=np.repeat([0.01, 0.005], 10), learning_rate=0.01)
        assert oracles.distance(halved[:9], constant[:9]) < 1e-14, rule
        assert oracles.distance(halved, constant) > 1e-6, rule


@pytest.mark.parametrize("library", ["optax", "paper"])
def test_rprop_takes_no_schedule(library):
    if library == "optax":
        pytest.importorskip("optax")
    with pytest.raises(TypeError, match="initial step"):
        oracles.trajectory(library, "rprop", [1.0], [[1.0]], rates=[0.1])


def test_optax_rprop_is_one_step_late():
    pytest.importorskip("optax")
    grads = [[1.0], [1.0], [1.0], [-1.0], [1.0]]
    late = np.diff(oracles.trajectory("optax", "rprop", [0.0], grads, learning_rate=0.1), axis=0, prepend=0)
    paper = np.diff(oracles.trajectory("paper", "rprop", [0.0], grads, learning_rate=0.1), axis=0, prepend=0)
    np.testing.assert_allclose(paper[:, 0], [-0.1, -0.12, -0.144, 0, -0.072], atol=1e-15)
    np.testing.assert_allclose(late[:, 0], [0, -0.1, -0.12, 0, 0], atol=1e-15)


@pytest.mark.parametrize(("library", "first"), [("paper", 100), ("optax", 100), ("torch", 50)])
def test_only_torch_clips_the_first_step_of_rprop(library, first):
    x = points((np.zeros(1), np.ones((3, 1))), (library, "rprop"), learning_rate=100.0)
    moved = -np.diff(x[:, 0], prepend=0)
    assert moved.tolist() == ([0, first, 50] if library == "optax" else [first, 50, 50])  # optax: one step late


@pytest.mark.parametrize(("library", "rectified"), [("paper", 5), ("torch", 6), ("optax", 6)])
def test_radam_is_rectified_from_this_step_on(library, rectified):
    x = points((np.zeros(1), np.ones((8, 1))), (library, "radam"), learning_rate=1.0)
    moved = -np.diff(x[:, 0], prepend=0)
    np.testing.assert_allclose(moved[: rectified - 1], 1, rtol=1e-12)
    assert (moved[rectified - 1 :] < 0.1).all()


@pytest.mark.parametrize("library", ["paper", "optax", "keras"])
def test_lamb_leaves_zero(library):
    grads = np.array([[3.0, -1e-3]] * 3 + [[0.0, 0.0]])
    x = points((np.zeros(2), grads), (library, "lamb", NO_DECAY), learning_rate=0.1, epsilon=1e-8)
    np.testing.assert_allclose(x[0], [-0.1, 0.1], rtol=1e-4)


@pytest.mark.parametrize("library", ["optax", "paper"])
def test_schedule_free_evaluates_the_average(record, library):
    if library == "optax":
        pytest.importorskip("optax")
    start, grads = record
    y = oracles.trajectory(library, "schedule_free_adamw", start, grads, learning_rate=0.01)
    x = oracles.schedule_free_eval(library, start, grads, learning_rate=0.01)
    z = (y - 0.9 * x) / 0.1
    np.testing.assert_allclose(x[0], y[0], rtol=1e-12)  # all of the first weight is on z
    if library == "optax":  # one rate, so the average is plain
        averaged = np.cumsum(z, axis=0) / np.arange(1, 1001)[:, None]
        np.testing.assert_allclose(x, averaged, rtol=0, atol=1e-11)


# ------------------------------------------------------------------ the module


@pytest.mark.parametrize(
    ("library", "rule", "expected"),
    [
        ("torch", "adagrad", {"learning_rate": 0.01, "epsilon": 1e-10, "initial_accumulator": 0}),
        ("torch", "rmsprop", {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-8}),
        ("torch", "adamw", {"weight_decay": 0.01}),
        ("torch", "rprop", {"learning_rate": 0.01, "eta_minus": 0.5, "min_step": 1e-6, "max_step": 50}),
        ("optax", "adagrad", {"epsilon": 1e-7, "initial_accumulator": 0.1, "weight_decay": 0}),
        ("optax", "lamb", {"epsilon": 1e-6, "weight_decay": 0}),
        ("optax", "adamw", {"weight_decay": 1e-4}),
        ("keras", "adadelta", {"learning_rate": 0.001, "epsilon": 1e-7, "weight_decay": 0}),
        ("keras", "adamw", {"weight_decay": 0.004}),
        ("mxnet", "adam", {"weight_decay": 1e-5, "epsilon": 1e-8, "clip": 0}),
        ("pycmtensor", "momentum", {"nesterov": True, "momentum": 0.9}),
    ],
)
def test_defaults_are_the_libraries_own(library, rule, expected):
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    found = oracles.DEFAULTS[library][rule]
    assert {name: found[name] for name in expected} == expected
    assert ("learning_rate" in found) == (library != "optax")


def test_a_default_is_what_a_library_uses():
    print("seed 6")
    start, grads = oracles.recorded(6, steps=10, size=4, low=-1, high=1)
    for library, rules in oracles.AVAILABLE.items():
        if not oracles.installed(library):
            continue
        for rule in rules:
            told = dict(oracles.DEFAULTS[library][rule])
            rate = {"learning_rate": told.pop("learning_rate", 0.01)}
            implicit = oracles.trajectory(library, rule, start, grads, **rate)
            explicit = oracles.trajectory(library, rule, start, grads, **rate, **told)
            assert oracles.distance(explicit, implicit) < 1e-14, (library, rule)


@pytest.mark.parametrize("library", ["torch", "optax", "keras", "mxnet", "paper"])
def test_an_unknown_hyperparameter_is_refused(library):
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    with pytest.raises(TypeError, match="rho"):
        oracles.trajectory(library, "adam", [1.0], [[1.0]], learning_rate=0.1, rho=0.5)


def test_the_libraries_are_left_as_they_were():
    torch, jax, _ = (pytest.importorskip(name) for name in ("torch", "jax", "optax"))
    if not oracles.installed("keras"):
        pytest.skip("keras is not installed")
    keras = libraries.imported_keras()
    before = torch.get_default_dtype(), jax.numpy.zeros(1).dtype, keras.config.floatx()
    for library in ("torch", "optax", "keras"):
        oracles.trajectory(library, "nadam", [1.0], [[1.0]], learning_rate=0.1)
    assert (torch.get_default_dtype(), jax.numpy.zeros(1).dtype, keras.config.floatx()) == before


def test_a_recorded_sequence_is_hard():
    print("seed 7")
    start, grads = oracles.recorded(7)
    again = oracles.recorded(7)
    assert np.array_equal(start, again[0])
    assert np.array_equal(grads, again[1])
    assert grads.shape == (1000, 24)
    assert grads.dtype == np.float64
    magnitudes = np.abs(grads).mean(axis=0)
    assert 1e-9 < magnitudes.min() < 1e-7
    assert 1e7 < magnitudes.max() < 1e9
    assert not grads[:5, 12].any()
    assert (grads[5:] == 0).any(axis=0).all()
    turns = np.sum(np.diff(np.sign(grads), axis=0) != 0, axis=0)
    assert (turns > 100).all()
