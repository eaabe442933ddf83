"""docs/studies.md names every key that a study may hold, with the default that the code has."""

import dataclasses
import inspect
import json
import re
import types
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from thalweg import optimizers, schedules, transforms
from thalweg.problems.programs.settings import ModelSettings, ProgramSettings, StepSettings
from thalweg.problems.sklearn.problem import PipelineSettings
from thalweg.problems.waves.settings import WaveBlock, WaveSettings
from thalweg.runs.search_tuning import KINDS
from thalweg.runs.settings import BudgetSettings, DaskRuntime, GenericBlock, LocalRuntime, OutputSettings, StudySettings
from thalweg.search import Search, engines

PAGE = Path(__file__).parents[1] / "docs" / "studies.md"

TABLES: dict[str, type[BaseModel]] = {
    "The file": StudySettings,
    "[[blocks]]": GenericBlock,
    "[runtime]": LocalRuntime,
    "[runtime] of a cluster": DaskRuntime,
    "[budget]": BudgetSettings,
    "[output]": OutputSettings,
    "[problem]": WaveSettings,
    "[[blocks]] of a wave study": WaveBlock,
    "[problem] of a pipeline": PipelineSettings,
    "[problem] of a program": ProgramSettings,
    "[[problem.steps]]": StepSettings,
    "[problem.lm]": ModelSettings,
}
SLOTS = {
    "[problem.start]": ("start",),
    "[problem.truth]": ("truth",),
    "[problem.observed]": ("observed",),
    "[problem.sources] and [problem.receivers]": ("sources", "receivers"),
    "[problem.wavelet]": ("wavelet",),
    "[problem.region]": ("region",),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without backticks."""
    found: list[list[str]] = []
    here = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            here = line.lstrip("#").strip().replace("`", "") == heading
        elif here and line.startswith("| `"):
            found.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    assert found, f"docs/studies.md has no table under {heading!r}"
    return found


def models_in(annotation: typing.Any) -> list[type[BaseModel]]:
    """The tables that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = [*typing.get_args(annotation), *([annotation.__value__] if hasattr(annotation, "__value__") else [])]
    return [model for argument in arguments if argument is not types.NoneType for model in models_in(argument)]


def agrees(told: str, field: FieldInfo) -> bool:
    """Whether the page's default is the code's; where the code has none, words may say what that means."""
    if field.is_required():
        return told == "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return told not in ("", "required")
    if isinstance(default, BaseModel):
        default = {}
    return told == json.dumps(default)


@pytest.mark.parametrize("heading", TABLES)
def test_each_key_is_named_with_its_default(heading):
    fields = TABLES[heading].model_fields
    told = {key: default for key, _, default, _ in rows(heading)}
    assert told.keys() == fields.keys()
    for key, field in fields.items():
        assert agrees(told[key], field), f"{heading} {key}: the page says {told[key]!r}"


@pytest.mark.parametrize("heading", SLOTS)
def test_each_key_of_each_kind_is_named_with_its_default(heading):
    told = {(kind, key): default for kind, key, _, default, _ in rows(heading)}
    expected: dict[tuple[str, str], FieldInfo] = {}
    for slot in SLOTS[heading]:
        for model in models_in(WaveSettings.model_fields[slot].annotation):
            (kind,) = typing.get_args(model.model_fields["kind"].annotation)
            keys = {key: field for key, field in model.model_fields.items() if key != "kind"}
            expected |= {(kind, key): field for key, field in keys.items()}
            if not keys:
                assert (kind, "") in told
    assert {place for place in told if place[1]} == expected.keys()
    for place, field in expected.items():
        assert agrees(told[place], field), f"{heading} {place}: the page says {told[place]!r}"


def test_every_table_of_a_wave_problem_has_a_section():
    slots = {name for name, field in WaveSettings.model_fields.items() if models_in(field.annotation)}
    assert slots == {slot for group in SLOTS.values() for slot in group}


def test_every_kind_that_goes_by_name_is_named():
    text = PAGE.read_text(encoding="utf-8")
    kinds = set(optimizers.registry) | set(schedules.registry) | set(transforms.registry) | set(KINDS)
    named = set(re.findall(r'"(\w+)"', text))
    assert kinds <= named, f"docs/studies.md does not name {sorted(kinds - named)}"


def test_each_parameter_of_schedules_and_transforms_is_named():
    text = PAGE.read_text(encoding="utf-8")
    for registry in (schedules.registry, transforms.registry):
        for kind, cls in registry.items():
            for parameter in (field.name for field in dataclasses.fields(cls)):
                assert re.search(rf"\b{parameter} = ", text), f"docs/studies.md: {kind} takes {parameter}"


def test_each_key_of_a_search_is_named_with_its_default():
    told = {key: default for key, _, default, _ in rows("[optimizer] of a search")}
    defaults = {name: p.default for name, p in inspect.signature(Search.__init__).parameters.items()}
    for key in ("candidates", "rescore", "finalists", "confidence"):
        assert told.pop(key) == json.dumps(defaults[key])
    assert told.keys() == {"kind", "name", "description"}


def test_the_names_of_engines_are_those_of_the_registry():
    assert set(KINDS) == engines.registry.keys()
