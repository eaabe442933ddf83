"""Each rule in a library's form computes what that library computes: after every one of 1,000 steps, to 1e-12.

The gradients are of all sizes from 1e-8 to 1e8, of several seeds side by side. The compiled pass is held against the
pure face on the same steps.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.references import oracles
from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, compile_rule
from thalweg.lowering.buffers import make_state

SEEDS = (1, 2, 3)
STEPS = 1000

CASES = [(name, library) for name, rule in rules.registry.items() for library in rule.conventions]
FORMS = [(name, None) for name in rules.registry] + CASES  # None: the paper's form

# What no library has as its default, so that whatever it is used for is seen.
OWN = {
    "momentum": 0.8,
    "rho": 0.93,
    "beta1": 0.8,
    "beta2": 0.99,
    "epsilon": 1e-3,
    "initial_accumulator": 0.2,
    "momentum_decay": 0.01,
    "threshold": 6.0,
    "weight_decay": 0.02,
    "warmup_steps": 40.0,
    "eta_minus": 0.4,
    "eta_plus": 1.3,
    "min_step": 1e-3,
    "max_step": 0.5,
}
# Where a library gives a rule with a form that it does not call by a name of its own.
THEIRS = {("momentum", "pycmtensor"): {"nesterov": False}}
# A rate that changes means something else there: Optax's Schedule-Free weighs with that of the step after.
CONSTANT = {("schedule_free_adamw", "optax")}
# As Optax counts it, its warm-up is one step behind ours, for the same reason.
NOT_OURS = {("schedule_free_adamw", "optax"): {"warmup_steps"}}
RMSPROP = {
    "plain": {},
    "momentum": {"with_momentum": True},
    "centered": {"centered": True},
    "both": {"centered": True, "with_momentum": True},
}


def changing(steps=STEPS):
    """Up and down, and never the same twice."""
    return 0.01 * (1.5 + np.sin(np.arange(steps) / 50)) / np.sqrt(1 + np.arange(steps) / 100)


@pytest.fixture(scope="session")
def record():
    """A start and gradients, the seeds side by side."""
    starts, grads = zip(*(oracles.recorded(seed, steps=STEPS) for seed in SEEDS), strict=True)
    return np.concatenate(starts), np.concatenate(grads, axis=1)


def in_form(name, library):
    rule = rules.decayed(rules.registry[name])
    return rule if library is None else rule.convention(library)


def path(rule, record, rates=None, **hyper):
    """The parameter after each step of the pure face."""
    x, grads = record
    hyper = rule.hyper(**hyper)
    state = rule.init(x, hyper if rates is None else hyper._replace(learning_rate=float(rates[0])))
    points = []
    for t, g in enumerate(grads, start=1):
        if rates is not None:
            hyper = hyper._replace(learning_rate=float(rates[t - 1]))
        x, state = rule.step(x, g, state, hyper, t=t)
        points.append(x)
    return np.array(points)


def compiled_path(rule, record, rates=None, **hyper):
    """The parameter after each step of the compiled pass, which works in place."""
    x, grads = np.array(record[0]), np.ascontiguousarray(record[1])
    hyper = rule.hyper(**hyper)
    first = hyper if rates is None else hyper._replace(learning_rate=float(rates[0]))
    state = make_state(len(rule.slot_names), x)
    for row, begin in zip(state, rule.beginning(x, first), strict=True):
        row[: x.size] = begin
    batch = Batch(compile_rule(rule, x.dtype), [Part(address_of(x), x.size, tuple(map(address_of, state)))])
    points = []
    for t, g in enumerate(grads, start=1):
        batch.set_grad(0, address_of(g))
        rate = {} if rates is None else {"learning_rate": float(rates[t - 1])}
        batch.set_hyper(0, hyper._replace(**rate), t=t)
        assert batch.step() is None
        points.append(x.copy())
    return np.array(points)


def trajectory(library, name, record, rates=None, **hyper):
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    extra = THEIRS.get((name, library), {})
    return oracles.trajectory(library, name, *record, rates=rates, **hyper, **extra)


def known_to_both(library, name, rule, values):
    """Those of ``values`` that are hyperparameters of both."""
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    theirs = set(oracles.DEFAULTS[library][name]) - NOT_OURS.get((name, library), set())
    return {key: value for key, value in values.items() if key in theirs and key in rule.hyperparameters}


def close(points, expected, what):
    found = oracles.distance(points, expected)
    print(f"seeds {SEEDS}: {what} differ by {found:.1e}")
    assert found < 1e-12


@pytest.mark.parametrize(("name", "library"), CASES)
def test_a_convention_is_the_library_with_its_defaults(record, name, library):
    rule = in_form(name, library)
    # Optax demands a rate.
    hyper = {"learning_rate": rule.hyper().learning_rate} if library == "optax" else {}
    expected = trajectory(library, name, record, **hyper)
    close(path(rule, record), expected, f"{library}'s {name} and ours")


@pytest.mark.parametrize(("name", "library"), CASES)
def test_a_convention_is_the_library_with_any_hyperparameters(record, name, library):
    """Weight decay among them, and a rate that changes at every step."""
    rule = in_form(name, library)
    hyper = known_to_both(library, name, rule, OWN)
    rates = None if (name, library) in CONSTANT else changing()
    if rates is None:
        hyper["learning_rate"] = 0.01
    if name in ("momentum", "nesterov"):
        assert "momentum" in hyper
    expected = trajectory(library, name, record, rates, **hyper)
    close(path(rule, record, rates, **hyper), expected, f"{library}'s {name} and ours")


@pytest.mark.parametrize("library", ["torch", "optax", "keras"])
@pytest.mark.parametrize("kind", [kind for kind in RMSPROP if kind != "plain"])
def test_rmsprop_with_momentum_and_centered(record, library, kind):
    rule = in_form("rmsprop", library).form(**RMSPROP[kind])
    hyper = known_to_both(library, "rmsprop", rule, OWN)
    assert ("momentum" in hyper) == ("with_momentum" in RMSPROP[kind])
    theirs = hyper | ({"centered": True} if "centered" in RMSPROP[kind] else {})
    expected = trajectory(library, "rmsprop", record, changing(), **theirs)
    close(path(rule, record, changing(), **hyper), expected, f"{library}'s rmsprop ({kind}) and ours")


@pytest.mark.parametrize(
    ("name", "rated"),
    # Rprop has an initial step, and no rate that could follow a schedule.
    [(name, rated) for name in rules.registry for rated in (False, True) if (name, rated) != ("rprop", True)],
)
def test_our_own_form_is_the_papers(record, name, rated):
    rule = rules.registry[name]
    theirs = "sgd" if name == "gradient_descent" else name
    defaults = rule.hyper()._asdict()
    # The paper multiplies AdamW's decay by the schedule's multiplier alone: documented, and what no library does.
    reading = {"rate_scales_decay": True} if name == "adamw" else {}
    rates = changing() if rated else None
    expected = oracles.trajectory("paper", theirs, *record, rates=rates, **defaults_of_paper(defaults, name), **reading)
    close(path(rule, record, rates), expected, f"the paper's {name} and ours")


def defaults_of_paper(defaults, name):
    """Our defaults, but for what is a constant in the paper's text."""
    return {key: value for key, value in defaults.items() if (name, key) != ("radam", "threshold")}


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("kind", RMSPROP)
def test_rmsprop_is_graves_in_every_form(record, kind, inside):
    rule = rules.rmsprop.form(epsilon_form="inside" if inside else "outside", **RMSPROP[kind])
    hyper = known_to_both("paper", "rmsprop", rule, OWN)
    theirs = hyper | {"centered": "centered" in RMSPROP[kind], "epsilon_inside": inside}
    expected = oracles.trajectory("paper", "rmsprop", *record, rates=changing(), **theirs)
    close(path(rule, record, changing(), **hyper), expected, f"the paper's rmsprop ({kind}) and ours")


def test_schedule_free_is_evaluated_where_the_paper_and_optax_say(record):
    for library in (None, "optax"):
        rule = in_form("schedule_free_adamw", library)
        if library is not None and not oracles.installed(library):
            continue
        hyper = rule.hyper(learning_rate=0.01)
        x, state, points = record[0], rule.init(record[0], hyper), []
        for t, g in enumerate(record[1], start=1):
            x, state = rule.step(x, g, state, hyper, t=t)
            points.append(rule.evaluate(x, state, hyper))
        expected = oracles.schedule_free_eval(library or "paper", *record, learning_rate=0.01)
        # x is told from y and z, which are close to each other: their rounding is seen.
        assert oracles.distance(np.array(points), expected) < 1e-12


# Where our default is not the paper's, and why.
CHOSEN = {
    ("gradient_descent", "learning_rate"): "the gradient itself is the step",
    ("rprop", "learning_rate"): "PyTorch's; the paper's 0.1 is for the weights of its networks",
    ("lamb", "weight_decay"): "there is none unless asked for",
}


@pytest.mark.parametrize(("name", "library"), [*CASES, *((name, "paper") for name in rules.registry)])
def test_the_defaults_are_the_librarys(name, library):
    rule = rules.registry[name] if library == "paper" else in_form(name, library)
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    theirs = oracles.DEFAULTS[library]["sgd" if name == "gradient_descent" else name]
    if library not in ("paper", "optax"):  # Optax has no default of its rates
        assert "learning_rate" in theirs
    ours = {key: h.default for key, h in rule.hyperparameters.items()}
    for key, option in rule.switches.items():
        ours[key] = rule.form(**{option: True}).hyperparameters[key].default
    if library == "paper":
        ours = {key: value for key, value in ours.items() if (name, key) not in CHOSEN}
    shared = ours.keys() & theirs.keys()
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}


def test_every_rule_of_a_library_has_a_convention_or_a_reason():
    without = {
        (name, library)
        for library in oracles.AVAILABLE
        for name in oracles.AVAILABLE[library]
        if library != "paper" and library not in rules.registry[name].conventions
    }
    # What Optax 0.2.8 calls Rprop applies the step before last.
    assert without == {("rprop", "optax")}
    assert not [(name, library) for name, library in CASES if name not in oracles.AVAILABLE[library]]


# ------------------------------------------------------------------ the forms are not all the same

ALONE = {  # what an option needs to make a difference
    ("rmsprop", "rate_in_buffer"): {"with_momentum": True},
    ("amsgrad", "epsilon_form"): {"correction": "after"},
}
# Where two forms are one: without state, η·(g + λθ) is η·g and η·λ·θ.
SAME = {("gradient_descent", "decay"), ("sgd", "decay")}


def with_own(rule, record):
    """300 steps with hyperparameters of our own: what differs between two such paths is the form."""
    hyper = {key: value for key, value in OWN.items() if key in rule.hyperparameters}
    return path(rule, (record[0], record[1][:300]), None if rule.name == "rprop" else changing(300), **hyper)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        (name, option, value)
        for name, rule in rules.registry.items()
        for option, values in rules.decayed(rule).options.items()
        for value in values[1:]
    ],
)
def test_every_form_is_another_formula(record, name, option, value):
    base = rules.decayed(rules.registry[name]).form(**ALONE.get((name, option), {}))
    moved = oracles.distance(with_own(base.form(**{option: value}), record), with_own(base, record))
    if (name, option) in SAME:
        assert moved < 1e-12
    else:
        assert moved > 1e-7


@pytest.mark.parametrize(("name", "library"), CASES)
def test_a_convention_differs_from_the_paper_where_its_form_does(record, name, library):
    ours, theirs = in_form(name, None), in_form(name, library)
    if name == "rmsprop":
        ours, theirs = (rule.form(with_momentum=True) for rule in (ours, theirs))
    chosen = [
        {option: rule.chosen.get(option, values[0]) for option, values in rule.options.items()}
        for rule in (ours, theirs)
    ]
    moved = oracles.distance(with_own(theirs, record), with_own(ours, record))
    if any(chosen[0][option] != chosen[1][option] and (name, option) not in SAME for option in chosen[0]):
        assert moved > 1e-7
    else:
        assert moved < 1e-12


# ------------------------------------------------------------------ compiled

# Beside a tiny gradient, coupled decay decides the sign, and so does rounding where the parameter comes near zero.
SINGLE = {"rprop": 1e-2}


def held_against_double(record, name, library, dtype, run):
    """What ``run`` gives in ``dtype``, against the pure face in double precision of the same numbers."""
    rule = in_form(name, library)
    rates = None if name == "rprop" else changing()
    hyper = {key: value for key, value in OWN.items() if key in rule.hyperparameters}
    rounded = tuple(array.astype(dtype) for array in record)
    points = run(rule, rounded, rates, **hyper)
    assert points.dtype == dtype
    found = oracles.distance(points, path(rule, tuple(array.astype(float) for array in rounded), rates, **hyper))
    print(f"seeds {SEEDS}: compiled and pure {name} ({library}) in {dtype.__name__} differ by {found:.1e}")
    assert found < (1e-12 if dtype is np.float64 else SINGLE.get(name, 1e-4))


@pytest.mark.parametrize(("name", "library"), FORMS)
def test_the_compiled_pass_is_the_pure_face(record, name, library):
    held_against_double(record, name, library, np.float64, compiled_path)


@pytest.mark.parametrize("name", rules.registry)
def test_the_compiled_pass_is_as_close_as_float32_can_be(record, name):
    held_against_double(record, name, None, np.float32, compiled_path)


@pytest.mark.parametrize(("name", "library"), FORMS)
def test_the_pure_face_is_as_close_as_float32_can_be(record, name, library):
    held_against_double(record, name, library, np.float32, path)


@pytest.mark.parametrize("library", [None, "keras"])
@pytest.mark.parametrize("kind", [kind for kind in RMSPROP if kind != "plain"])
def test_the_compiled_rmsprop_is_the_pure_face(record, library, kind):
    rule = in_form("rmsprop", library).form(**RMSPROP[kind])
    hyper = {key: value for key, value in OWN.items() if key in rule.hyperparameters}
    points = compiled_path(rule, record, changing(), **hyper)
    assert oracles.distance(points, path(rule, record, changing(), **hyper)) < 1e-12


# ------------------------------------------------------------------ what hyperparameters and gradients may do to it


@pytest.mark.parametrize(("name", "library"), FORMS)
def test_finite_gradients_give_finite_parameters(name, library):
    """Constant, tiny, huge, zero, of changing sign, and one that stays away for long."""
    size = np.logspace(-30, 12, 22)
    steps = np.arange(400)[:, None]
    turning = np.where(steps % 2 == 0, 1.0, -1.0)
    rare = (steps % 150 == 0).astype(float)
    grads = np.concatenate([np.ones_like(steps) * size, turning * size, rare * size, 0.0 * steps], axis=1)
    start = np.concatenate([np.linspace(-1, 1, grads.shape[1] - 1), [0.0]])
    rule = in_form(name, library)
    forms = [rule] if name != "rmsprop" else [rule.form(**options) for options in RMSPROP.values()]
    for form in forms:
        assert np.isfinite(path(form, (start, grads))).all(), form.chosen
