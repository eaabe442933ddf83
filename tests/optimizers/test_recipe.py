"""What a user asks for, and gets: conventions, forms, switches, wrappers; as JSON, in saved state and in help()."""

from __future__ import annotations

import inspect
import itertools
import json
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, rules, transforms
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, AdaGrad, Adam, LocalOptimizer, Momentum, OptimizerSnapshot, RMSProp, recipe
from thalweg.schedules import Cosine, Exp, Join, Plateau

every_kind = pytest.mark.parametrize("kind", optimizers.registry)
SHAPES = {"w": (2, 3), "b": (3,)}


def variables() -> list[Variable]:
    return [Variable(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), name=n) for n, shape in SHAPES.items()]


def gradients(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def go(optimizer: LocalOptimizer, first: int, last: int) -> None:
    for t in range(first, last):
        if t % 2 == 0:
            optimizer.optimization_state.begin_epoch()
        wait(optimizer.step(grad=gradients(t)))


def content(optimizer: LocalOptimizer) -> Any:
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays, [variable.data.tobytes() for variable in optimizer.variables]


# -- conventions and forms --


@every_kind
def test_a_convention_sets_form_and_defaults_and_what_is_given_wins(kind: str) -> None:
    cls = optimizers.registry[kind]
    for library, asked in cls.rule.conventions.items():
        optimizer = cls(convention=library)
        full = cls().rule
        for name, value in asked.items():
            if name in full.options:
                assert optimizer.rule.chosen[name] == value
                for other in full.options[name]:
                    given = cls(convention=library, **{name: other})
                    assert given.rule.chosen == optimizer.rule.chosen | {name: other}
                    common = given.hyperparameters.keys() & optimizer.hyperparameters.keys()
                    assert {n: given.hyperparameters[n] for n in common} == {
                        n: optimizer.hyperparameters[n] for n in common
                    }
            else:
                assert optimizer.hyperparameters[name] == value
        for name in optimizer.hyperparameters:
            if name not in asked:
                assert optimizer.hyperparameters[name] == cls().hyperparameters.get(name, 0.0), (library, name)
            valid = 0.5 if name != "sync_period" else 2
            if valid in cls().rule.hyperparameters[name].interval:
                assert getattr(cls(convention=library, **{name: valid}), name) == valid
        assert optimizer.get_config()["convention"] == library
        assert cls(convention=library).rule is optimizer.rule  # compiled once


@every_kind
def test_every_option_is_a_keyword(kind: str) -> None:
    cls = optimizers.registry[kind]
    full = cls().rule
    for name, values in full.options.items():
        assert full.chosen[name] == values[0]  # what nobody asked for
        for value in values:
            optimizer = cls(**{name: value})
            assert optimizer.rule.chosen == full.chosen | {name: value}
            assert (f"{name}={value!r}" in repr(optimizer)) is (value != values[0])
        for wrong in ("nonsense", 1.5, None):
            with pytest.raises(HyperparameterError, match=f"{name} is {wrong!r}; it may be"):
                cls(**{name: wrong})


@pytest.mark.parametrize(
    ("given", "slots", "momentum"),
    [
        ({}, ("mean_square",), None),
        ({"momentum": 0}, ("mean_square",), None),
        ({"momentum": 0.0}, ("mean_square",), None),
        ({"momentum": 0.9}, ("mean_square", "velocity"), 0.9),
        ({"momentum": 0.0, "with_momentum": True}, ("mean_square", "velocity"), 0.0),
        ({"with_momentum": True}, ("mean_square", "velocity"), 0.0),
        ({"momentum": 0.5, "centered": True}, ("mean_square", "mean", "velocity"), 0.5),
        ({"momentum": 0.5, "wrap": ["ema"]}, ("mean_square", "velocity", "average"), 0.5),
        ({"momentum": 0.5, "convention": "keras"}, ("mean_square", "velocity"), 0.5),
        ({"convention": "torch"}, ("mean_square",), None),
    ],
    ids=str,
)
def test_a_switch_is_a_hyperparameter_that_brings_its_form(given: Any, slots: Any, momentum: Any) -> None:
    optimizer = RMSProp(**given)
    assert optimizer.rule.slot_names == slots
    assert optimizer.hyperparameters.get("momentum") == momentum
    if momentum is None:
        with pytest.raises(HyperparameterError, match="momentum"):
            optimizer.momentum = 0.9


def test_a_switch_may_be_a_schedule() -> None:
    optimizer = RMSProp(variables(), momentum=Exp(0.5, gamma=0.5, decay_on_iteration=True))
    assert "velocity" in optimizer.rule.slot_names
    go(optimizer, 0, 2)
    assert optimizer.current("momentum") == 0.25


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RMSProp(momentum=0.9, with_momentum=False), "momentum means nothing with with_momentum=False"),
        (lambda: setattr(RMSProp(), "momentum", 0.9), "momentum means nothing with with_momentum=False"),
        (lambda: setattr(Adam(), "ema_decay", 0.9), "ema_decay belongs to a wrapper; ask for it, too: wrap=['ema']"),
        (lambda: setattr(Adam(), "epsilon_form", "hat"), "epsilon_form stays as it was given when the optimizer was"),
        (lambda: setattr(Adam(), "nonfinite", "skip"), "nonfinite stays as it was given when the optimizer was made"),
        (lambda: setattr(Adam(), "rule", rules.sgd), "rule stays as it was given when the optimizer was made"),
        (lambda: RMSProp(momentum=-0.5), "momentum is -0.5"),
        (lambda: RMSProp(momentum="0.5"), "momentum is '0.5'"),
        (lambda: RMSProp(momentum=None), "momentum is None"),
        (lambda: RMSProp(momentum=False), "momentum is False"),
        (lambda: RMSProp(momentum="0"), "momentum is '0'"),
        (lambda: RMSProp(momentum=float("nan")), "momentum is nan"),
        (lambda: RMSProp(momentm=0.5), "did you mean 'momentum'"),
        (lambda: RMSProp(centred=True), "did you mean 'centered'"),
        (lambda: Adam(epsilonform="hat"), "did you mean 'epsilon_form'"),
        (lambda: Adam(epsilon_form="hatt"), "epsilon_form is 'hatt'; it may be 'outside' or 'hat'"),
        (lambda: Adam(lr=0.1), "did you mean 'learning_rate'"),
        (lambda: Adam(nonfinit="skip"), "did you mean 'nonfinite'"),
        (lambda: Adam(acumulate=2), "did you mean 'accumulate'"),
        (lambda: Adam(weight_decy=0.1), "did you mean 'weight_decay'"),
        (lambda: Adam(decay=0.1), "decay is 0.1; it may be 'coupled' or 'decoupled'"),
        (lambda: Adam(convention="karas"), "there is no convention of adam: 'karas'; did you mean 'keras'"),
        (lambda: Adam(convention=3), "there is no convention of adam: '3'"),
        (lambda: Adam(convention=["torch"]), "there is no convention of adam"),
        (lambda: AdaGrad(convention="optx"), "did you mean 'optax'"),
        (lambda: optimizers.Rprop(convention="keras"), "there is no convention of rprop: 'keras' (known: torch)"),
        (lambda: Adam(beta1=np.array([0.5, 1.5])), "beta1[1] is 1.5"),
        (lambda: RMSProp(momentum=np.array([1, 0])), "momentum is an array of (2,) int64"),
        (lambda: RMSProp(momentum=[0.5, 0.5]), "momentum is"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest(make: Any, words: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        make()
    assert words in str(caught.value)


def test_numbers_of_other_kinds_are_numbers() -> None:
    for one in (1, np.float32(1), np.int64(1), np.array(1.0)):
        assert SGD(learning_rate=one).learning_rate == 1.0
        assert type(SGD(learning_rate=one).learning_rate) is float
    assert RMSProp(momentum=np.float64(0.0)).rule.slot_names == ("mean_square",)
    assert RMSProp(momentum=np.array(0.5)).momentum == 0.5


# -- what a class says of itself --


class Heavy(LocalOptimizer):
    rule = rules.momentum


class Heavier(Heavy):
    """Momentum with more of it."""

    rule = rules.momentum.with_defaults(momentum=0.99)


class Own(Momentum):
    """With a constructor of its own."""

    def __init__(self, variables: Any = None, *, horizon: int = 10) -> None:
        super().__init__(variables, momentum=1 - 1 / horizon)


class OwnRule(LocalOptimizer):
    """With both."""

    rule = rules.momentum

    def __init__(self, horizon: int = 10) -> None:
        super().__init__(None, momentum=1 - 1 / horizon)


@pytest.mark.parametrize("cls", [*optimizers.registry.values(), Heavy, Heavier], ids=lambda cls: cls.__name__)
def test_signature_and_docstring_tell_what_may_be_given(cls: type[LocalOptimizer]) -> None:
    signature = inspect.signature(cls)
    assert next(iter(signature.parameters)) == "variables"
    optimizer = cls()
    for name, parameter in signature.parameters.items():
        if name == "variables":
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            continue
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if name in recipe.of_wrappers():  # it is refused without its wrapper
            wrapped = cls(wrap=[recipe.added()[name][0]]) if cls.rule.evaluate is None else optimizer
            assert wrapped.hyperparameters.get(name, parameter.default) == parameter.default
            continue
        given = cls(**{name: parameter.default})
        if name not in optimizer.rule.switches:
            assert given.get_config() == optimizer.get_config(), name
    assert set(optimizer.hyperparameters) | set(optimizer.rule.options) <= set(signature.parameters)
    assert set(cls.keywords()) == set(signature.parameters) - {"variables"}
    for name, default in cls.keywords().items():
        assert signature.parameters[name].default == default
    if cls is not Heavier:
        assert cls.__doc__ is not None
        for name in cls.keywords():
            assert name in cls.__doc__, name
        for section in ("Args:", "Raises:", "Source:"):
            assert section in cls.__doc__
        assert ("Example:" in cls.__doc__) is (cls is not Heavy)
    page = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    assert "learning_rate" in page
    assert all(len(line) <= 120 for line in (cls.__doc__ or "").splitlines())


def test_a_rule_of_ones_own_with_a_docstring_and_defaults_of_its_own() -> None:
    assert Heavier.__doc__ == "Momentum with more of it."
    assert inspect.signature(Heavier).parameters["momentum"].default == 0.99
    x = Variable(np.zeros(1), name="x")
    wait(Heavier(x, learning_rate=1.0).step(grad=np.ones(1)))
    assert x.data[0] == -1.0


def test_a_constructor_of_ones_own_has_its_own_signature() -> None:
    assert list(inspect.signature(Own).parameters) == ["variables", "horizon"]
    assert list(inspect.signature(OwnRule).parameters) == ["horizon"]
    assert Own(horizon=4).momentum == OwnRule(4).momentum == 0.75


def test_the_rule_of_a_class_stays_its_own() -> None:
    rule = Adam.rule
    assert Adam(convention="keras", wrap=["ema"]).rule is not rule
    assert Adam.rule is rule is rules.adam


# -- as JSON --


def _schedules() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "numbers", {}
    yield "exp", {"learning_rate": Exp(0.125, gamma=0.5)}
    joined = Join([Cosine(0.125, period=3), Exp(0.5, gamma=0.5, decay_on_iteration=True)], boundaries=[2])
    yield "joined", {"learning_rate": joined}
    yield "plateau", {"learning_rate": Plateau(0.125, factor=0.5, patience=0)}
    yield "decay", {"weight_decay": Exp(0.125, gamma=0.5, decay_on_iteration=True)}


SCHEDULES = dict(_schedules())
GROUPS: list[Any] = [
    (),
    [{"variables": "b", "learning_rate": 0.25}],
    [{"variables": ["w*"], "weight_decay": 0.25, "learning_rate": Exp(0.25, gamma=0.5)}, {"variables": "b"}],
]
WRAPS: list[tuple[str, ...]] = [(), ("ema",), ("lookahead", "ema"), ("ema", "lookahead")]
COMMON: list[dict[str, Any]] = [
    {},
    {"accumulate": 2, "nonfinite": "skip", "name": "mine", "description": "for this"},
    {"process_grad": [transforms.clip_global_norm(1.0), transforms.clip_value(0.5)], "nonfinite": "zero"},
    {"process_model": {"b": transforms.bounds(-1, 1)}},
]


def fitting(kind: str, table: dict[str, Any]) -> dict[str, Any]:
    """A table without schedules of what the rule reads at its first step only, which are refused: test_initial.py."""
    initial = optimizers.registry[kind].rule.initial
    groups = {"groups": [fitting(kind, group) for group in table["groups"]]} if "groups" in table else {}
    return {name: v for name, v in table.items() if not (name in initial and callable(v))} | groups


def _asked(kind: str) -> Iterator[dict[str, Any]]:
    """Every convention, every option and a number of mixtures of all the rest."""
    cls = optimizers.registry[kind]
    forms: list[dict[str, Any]] = [{"convention": library} for library in (None, *cls.rule.conventions)]
    for name, values in cls().rule.options.items():
        forms += [{"convention": library, name: value} for library in cls.rule.conventions for value in values]
        forms += [{name: value} for value in values]
    forms += [{name: 0.5} for name in cls().rule.switches]
    wraps = [wrap for wrap in WRAPS if not (wrap and cls.rule.evaluate)]
    rest = itertools.cycle(itertools.product(wraps, GROUPS, SCHEDULES.values(), COMMON))
    for form, (wrap, groups, scheduled, common) in zip(forms * 3, itertools.islice(rest, 0, None, 7), strict=False):
        more = {"ema_decay": 0.5} if "ema" in wrap else {}
        if cls.rule.derived and "process_model" in common:
            common = {}  # refused: test_policies.py
        yield fitting(kind, {**form, "wrap": wrap, "groups": groups, **scheduled, **common, **more})


@every_kind
def test_every_config_goes_through_json_and_back(kind: str) -> None:
    cls = optimizers.registry[kind]
    for asked in _asked(kind):
        optimizer = cls(variables(), **asked)
        config = optimizer.get_config()
        text = json.dumps(config, allow_nan=False)
        for again in (cls.from_config(json.loads(text), variables()), optimizers.build(json.loads(text), variables())):
            assert again.get_config() == config, asked
            assert again.rule is optimizer.rule
            assert again.hyperparameters == optimizer.hyperparameters
            assert [g.settings for g in again.groups] == [g.settings for g in optimizer.groups]
            assert repr(again) == repr(optimizer)
            assert content(again) == content(optimizer)
        json.dumps(optimizer.state().meta, allow_nan=False)


def _mixtures(kind: str) -> list[dict[str, Any]]:
    """A few that need to be compiled: no more than two texts for a rule."""
    cls = optimizers.registry[kind]
    library = next(iter(cls.rule.conventions), None)
    wrap = [] if cls.rule.evaluate else ["lookahead", "ema"]
    more = {"sync_period": 2, "ema_decay": 0.5} if wrap else {}
    several = [
        {"learning_rate": Plateau(0.125, factor=0.5, patience=0), "groups": GROUPS[1], **COMMON[2]},
        {
            "convention": library,
            "wrap": wrap,
            **more,
            "groups": GROUPS[2],
            "learning_rate": SCHEDULES["joined"]["learning_rate"],
            "accumulate": 2,
            **({} if cls.rule.derived else {"process_model": transforms.bounds(-3, 3)}),
        },
    ]
    return [fitting(kind, options) for options in several]


MIXTURES = [(kind, number) for kind in optimizers.registry for number in range(2)]


@pytest.mark.sampled(16)
@pytest.mark.parametrize(("kind", "number"), MIXTURES)
def test_made_again_or_loaded_it_goes_on_to_the_same_bits(kind: str, number: int, tmp_path: Path) -> None:
    cls = optimizers.registry[kind]
    optimizer = cls(variables(), **_mixtures(kind)[number])
    config = json.loads(json.dumps(optimizer.get_config()))
    again = optimizers.build(config, variables())
    for either in (optimizer, again):
        go(either, 0, 5)
    assert content(again) == content(optimizer)
    optimizer.dump(tmp_path)
    twins = optimizers.build(config, variables()), cls(variables(), **_mixtures(kind)[number])
    for twin in twins:
        twin.load(tmp_path)
        assert content(twin) == content(optimizer)
    for either in (optimizer, *twins):
        go(either, 5, 9)
        either.observe(7.0)
        go(either, 9, 11)
        assert content(either) == content(optimizer)


OTHER_PROCESS = """
import sys, json, hashlib, pathlib, numpy as np, thalweg as tw
folder = pathlib.Path(sys.argv[1])
shapes = {"w": (2, 3), "b": (3,)}
for sub in sorted(folder.iterdir()):
    config = json.loads((sub / "config.json").read_text())
    optimizer = tw.optimizers.build(config, [tw.Variable(np.zeros(s), name=n) for n, s in shapes.items()])
    optimizer.load(sub / "state")
    for t in range(5, 8):
        if t % 2 == 0:
            optimizer.optimization_state.begin_epoch()
        rng = np.random.default_rng(t)
        tw.wait(optimizer.step(grad={n: rng.normal(size=s) for n, s in shapes.items()}))
    print(sub.name, json.dumps([v.data.tobytes().hex() for v in optimizer.variables]))
"""


def test_another_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    made: dict[str, LocalOptimizer] = {}
    for kind, number in MIXTURES:
        optimizer = optimizers.registry[kind](variables(), **_mixtures(kind)[number])
        name = f"{kind}-{number}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(optimizer.get_config()))
        go(optimizer, 0, 5)
        optimizer.dump(tmp_path / name / "state")
        go(optimizer, 5, 8)
        made[name] = optimizer
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert found.keys() == made.keys()
    for name, optimizer in made.items():
        assert json.loads(found[name]) == [v.data.tobytes().hex() for v in optimizer.variables], name


# -- saved state that was written by another form --


REFUSED: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"epsilon_form": "hat"}, {}, ["form was {'epsilon_form': 'hat'", "here it is {'epsilon_form': 'outside'"]),
    ({"decay": "decoupled"}, {}, ["form was", "'decay': 'decoupled'"]),
    ({"convention": "keras"}, {}, ["form was {'epsilon_form': 'hat'"]),
    ({"wrap": ["ema"]}, {}, ["wrap was ['ema'], here it is []", "unexpected: slots/average/w"]),
    ({}, {"wrap": ["ema"]}, ["wrap was [], here it is ['ema']", "missing: slots/average/w", "ema_decay"]),
    ({"wrap": ["ema", "lookahead"]}, {"wrap": ["lookahead", "ema"]}, ["wrap was ['ema', 'lookahead']"]),
    ({"groups": GROUPS[1]}, {}, ["groups were of [['b']], here they are of []"]),
    ({}, {"groups": GROUPS[2]}, ["groups were of [], here they are of [['w*'], ['b']]"]),
    ({"accumulate": 2}, {}, ["accumulate was 2, here it is 1"]),
    ({"process_grad": transforms.clip_norm(1)}, {}, ["process_grad was", "clip_norm", "hand in the same one"]),
    (
        {"epsilon_form": "hat", "wrap": ["lookahead"], "groups": GROUPS[1], "accumulate": 3},
        {"process_model": transforms.bounds(0, 1)},
        ["form was", "wrap was", "accumulate was", "groups were", "process_model was", "unexpected: slots/slow/w"],
    ),
]


@pytest.mark.parametrize(("saved", "here", "words"), REFUSED, ids=str)
def test_state_of_another_form_is_refused_with_a_list_and_no_effect(
    saved: dict[str, Any], here: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    source, target = Adam(variables(), **saved), Adam(variables(), **here)
    go(source, 0, 4)
    source.dump(tmp_path)
    go(target, 0, 3)
    before = content(target)
    for act in (lambda: target.load(tmp_path), lambda: target.restore(source.state())):
        with pytest.raises(
            StateMismatchError, match="does not fit this optimizer; nothing was changed:\n  - "
        ) as caught:
            act()
        assert content(target) == before
        assert caught.value.details["differences"]
    with pytest.raises(StateMismatchError) as caught:
        target.load(tmp_path)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    go(target, 3, 5)


OF_VERSION_0_1 = {
    "gradient_descent": ["learning_rate"],
    "sgd": ["learning_rate"],
    "momentum": ["learning_rate", "momentum"],
    "nesterov": ["learning_rate", "momentum"],
    "adagrad": ["learning_rate", "epsilon"],
    "rmsprop": ["learning_rate", "rho", "epsilon"],
    "adadelta": ["learning_rate", "rho", "epsilon"],
    "adam": ["learning_rate", "beta1", "beta2", "epsilon"],
    "adamax": ["learning_rate", "beta1", "beta2", "epsilon"],
}
"""The rules that it had, and their hyperparameters."""


def _old(snapshot: OptimizerSnapshot, kind: str) -> dict[str, Any]:
    """The meta as version 0.1 wrote it."""
    known = ("rule", "updates", "optimization_state", "hyperparameters", "process_grad", "process_model", "variables")
    meta = {name: snapshot.meta[name] for name in known}
    meta["hyperparameters"] = {name: meta["hyperparameters"][name] for name in OF_VERSION_0_1[kind]}
    return meta


@pytest.mark.parametrize("kind", OF_VERSION_0_1)
def test_state_of_version_0_1_is_still_loaded(kind: str, tmp_path: Path) -> None:
    cls = optimizers.registry[kind]
    source = cls(variables(), learning_rate=Exp(0.125, gamma=0.5))
    go(source, 0, 4)
    snapshot = source.state()
    data = {f"variables/{v.name}": v.data for v in source.variables}
    CheckpointStore(tmp_path).save({**snapshot.arrays, **data}, {"optimizer": _old(snapshot, kind)})
    other = cls(variables(), weight_decay=0.5, nonfinite="skip")  # which that version did not have: 0
    other.load(tmp_path)
    assert other.weight_decay == 0.0
    for either in (source, other):
        go(either, 4, 7)
    assert content(other)[1:] == content(source)[1:]
    forms = [{"decay": "decoupled"}] + ([{"convention": "keras"}] if kind in ("adam", "rmsprop", "adamax") else [])
    for options in (*forms, {"wrap": ["ema"]}, {"accumulate": 2}, {"groups": GROUPS[1]}):
        target = cls(variables(), **options)
        before = content(target)
        with pytest.raises(StateMismatchError, match=r"form was|wrap was|accumulate was|groups were"):
            target.load(tmp_path)
        assert content(target) == before


def test_a_restore_that_a_schedule_of_ones_own_refuses_changes_nothing() -> None:
    """It is called with the counts of the state that comes, if at all."""

    def only_later(state: Any) -> float:
        if state.curr_iter == 2:
            raise ZeroDivisionError
        return 0.125

    source, target = SGD(variables(), learning_rate=0.5), SGD(variables(), learning_rate=0.5)
    go(source, 0, 3)
    source.learning_rate = only_later
    go(target, 0, 1)
    target.learning_rate = only_later
    target.optimization_state.curr_iter = 2
    target.restore(source.state())
    assert target.iterations == 3
    assert content(target)[:2] == content(source)[:2]
