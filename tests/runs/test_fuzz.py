"""Whatever a study document holds, it is accepted or refused with our own error."""

import copy
import datetime
import random
import tomllib

from thalweg.errors import ThalwegError
from thalweg.runs import Study
from thalweg.runs.tuning import build_optimizer

VALUES = [
    *(0, -1, 1, 2**63, 10**30, -(10**30), 10**400, 10**5000, 1.5, -0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), -float("inf"), True, False, "", "é\u0000x", "x" * 10000, "adam"),
    *(
        [],
        [[]],
        [{}],
        ["a"],
        [1, 2, 3],
        [float("nan")] * 2,
        {},
        {"": 1},
        {"kind": "x"},
        {"kind": 1},
        {"kind": ["mask"]},
    ),
    *([{"kind": ["mask"]}], {"kind": {}}, {"kind": "bounds"}, {"kind": "exp"}, {"kind": "exp", "initial": 10**400}),
    *({"kind": "mask", "array": ["a"]}, {"kind": "smooth", "sigma": 1e308}, {"value": 1.0}),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1, 2)),
]


def places(node, path=()):
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document, path, value):
    document = copy.deepcopy(document)
    where = document
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = copy.deepcopy(value)
    return document


def test_a_study_with_any_one_value_changed_is_accepted_or_refused_by_us(document, kinds):
    document["output"] = {"folder": "runs", "figures": True, "checkpoint_every": 5}
    document["optimizer"] |= {"process_grad": [{"kind": "clip_norm", "limit": 1.0}], "process_model": []}
    document["blocks"][0] |= {"optimizer": {"learning_rate": 0.1}, "reset_optimizer": True}
    changes = [(path, value) for path in places(document) for value in VALUES if path != ("problem", "length")]
    changes += [(("problem", "length"), value) for value in (-1, 10**14, 10**30, 10**400, 10**5000, "8")]
    random.Random(7).shuffle(changes)
    foreign, refused, accepted = [], [], 0
    for path, value in changes[:900]:
        try:
            study = Study.from_document(changed(document, path, value), kinds=kinds, overrides=["description=a"])
            assert tomllib.loads(study.text) == study.document or value != value
            if path[:2] != ("problem", "measurements"):
                build_optimizer(study.settings.optimizer, study.build_problem())
            accepted += 1
        except ThalwegError as error:
            refused.append(str(error))
        except Exception as error:
            foreign.append((path, repr(value)[:60] if value != 10**5000 else "10**5000", repr(error)[:200]))
    assert foreign == []
    assert all(refused)
    assert 20 < accepted < 800
