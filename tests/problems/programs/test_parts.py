"""Steps, chains, the operator, metrics and data."""

import json
import math
import zipfile

import pytest

import thalweg as tw
from thalweg.errors import AnswerError, EndpointError, StudyError, ValueMismatchError
from thalweg.lm import LanguageModel, Usage
from thalweg.lm.stub import Reply, Stub
from thalweg.problems.programs import Generate, Program, Step, metrics, register_metric
from thalweg.problems.programs.data import deal, read_rows, records
from thalweg.search import StructuredVariable

TEXT = {"type": "string"}
EXAMPLE = {"inputs": {"text": "a pear"}, "outputs": {"label": "Yes"}}
VALUE = {"instructions": "Is it food?", "examples": [EXAMPLE]}


def step(**options):
    return Step("judge", **{"inputs": {"text": TEXT}, "outputs": {"label": TEXT}, **options})


def roles(messages):
    return [(message["role"], message["content"]) for message in messages]


# -- steps ---------------------------------------------------------------------------------


def test_examples_are_turns_of_the_conversation():
    assert roles(step().messages(VALUE, {"text": "an axe", "other": 1})) == [
        ("system", "Is it food?"),
        ("user", "a pear"),
        ("assistant", "Yes"),
        ("user", "an axe"),
    ]


def test_several_inputs_have_their_names_and_json_answers_are_canonical():
    many = step(inputs={"text": TEXT, "size": {"type": "integer"}}, outputs={"b": TEXT, "a": TEXT}, answer="json")
    example = {"inputs": {"text": "x", "size": 2}, "outputs": {"a": "1", "b": "2"}}
    messages = many.messages({"instructions": "Do.", "examples": [example]}, {"text": "y", "size": 3})
    assert roles(messages)[1:] == [
        ("user", "text: x\nsize: 2"),
        ("assistant", '{"a":"1","b":"2"}'),
        ("user", "text: y\nsize: 3"),
    ]


def test_a_text_answer_is_the_output():
    with Stub(lambda body: "Yes it is") as stub:
        outcome = tw.wait(step(max_tokens=1).run(LanguageModel(stub.url, "stub"), VALUE, {"text": "an axe"}))
    assert outcome.outputs == {"label": "Yes"}
    assert outcome.truncated
    assert outcome.usage == Usage(3 + 2 + 1 + 2, 1)


def test_a_json_answer_has_to_fit():
    labels = step(outputs={"label": {"enum": ["Yes", "No"]}}, answer="json")
    with Stub(lambda body: '{"label": "Perhaps"}') as stub:
        model = LanguageModel(stub.url, "stub")
        outcome = tw.wait(labels.run(model, VALUE, {"text": "an axe"}))
        assert outcome.outputs is None
        assert "'Perhaps' is not one of" in outcome.fault
        assert outcome.usage == model.spending.used


@pytest.mark.parametrize(
    ("schema", "answer"),
    [(TEXT, r'{"label": "x \ud83d"}'), ({"type": "integer"}, f'{{"label": {2**1023}}}')],
    ids=["half a character", "too large"],
)
def test_an_answer_that_no_later_step_can_be_sent_does_not_fit(schema, answer):
    first = step(outputs={"label": schema}, answer="json")
    later = Step("later", inputs={"label": schema}, outputs={"more": TEXT})
    values = {"judge": VALUE, "later": {"instructions": "Go on.", "examples": []}}
    with Stub(lambda body: answer) as stub:
        model = LanguageModel(stub.url, "stub")
        outcome = tw.wait(Program([first, later]).run(model, values, {"text": "an axe"}))
        assert outcome.outputs is None
        assert "the answer" in outcome.fault
        assert len(stub.requests) == 2, "once more for the repair"


def test_the_bound_of_a_step_is_kept():
    labels = step(outputs={"label": {"enum": ["Yes", "No"]}}, answer="json")
    with Stub(lambda body: "no " * 100, usage=False) as stub:
        model = LanguageModel(stub.url, "stub", max_tokens=9)
        for one in (step(), labels):
            before = model.spending.used
            outcome = tw.wait(one.run(model, VALUE, {"text": "an axe"}))
            assert outcome.usage == model.spending.used - before
            assert outcome.usage.tokens <= one.most(model, VALUE, {"text": "an axe"}).tokens


def test_a_variable_takes_instructions_and_examples_of_the_pool():
    other = {"inputs": {"text": "an axe"}, "outputs": {"label": "No"}}
    variable = step().variable("Is it food?", pool=[EXAMPLE, other], most=2)
    variable.assign({"instructions": "Food?", "examples": [other, EXAMPLE]})
    for bad in (
        {"instructions": "", "examples": []},
        {"instructions": "Food?", "examples": [EXAMPLE, EXAMPLE]},
        {"instructions": "Food?", "examples": [{"inputs": {"text": "new"}, "outputs": {"label": "No"}}]},
        {"instructions": "Food?"},
    ):
        with pytest.raises(ValueMismatchError):
            variable.assign(bad)
    assert variable.name == "judge"


def test_a_variable_without_examples():
    variable = step().variable("Is it food?")
    with pytest.raises(ValueMismatchError):
        variable.assign({"instructions": "Food?", "examples": [EXAMPLE]})


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": {}},
        {"outputs": {}},
        {"outputs": {"a": TEXT, "b": TEXT}},
        {"outputs": {"a": {"type": "integer"}}},
        {"answer": "xml"},
    ],
)
def test_wrong_steps(options):
    with pytest.raises(StudyError):
        step(**options)
    with pytest.raises(StudyError, match="no digit first"):
        Step("2 judges", inputs={"a": TEXT}, outputs={"b": TEXT})


# -- programs ------------------------------------------------------------------------------


def chain():
    return Program(
        [
            Step("first", inputs={"text": TEXT}, outputs={"turned": TEXT}),
            Step("second", inputs={"turned": TEXT, "text": TEXT}, outputs={"label": TEXT}),
        ]
    )


VALUES = {"first": {"instructions": "One.", "examples": []}, "second": {"instructions": "Two.", "examples": []}}


def test_outputs_go_on_to_later_steps():
    with Stub() as stub:
        program = chain()
        outcome = tw.wait(program.run(LanguageModel(stub.url, "stub"), VALUES, {"text": "a b"}))
    assert program.inputs == ("text",)
    assert [body["messages"][-1]["content"] for body in stub.requests] == ["a b", "turned: b a\ntext: a b"]
    assert outcome.outputs == {"turned": "b a", "label": "b a text: a b turned:"}
    assert outcome.usage == Usage(3 + 7, 2 + 6)


def test_what_was_paid_before_a_failure_is_said():
    with Stub(script=[None, Reply(500)]) as stub:
        model = LanguageModel(stub.url, "stub", retries=0)
        with pytest.raises(EndpointError) as caught:
            tw.wait(chain().run(model, VALUES, {"text": "a b"}))
    assert caught.value.details["usage"] == Usage(3, 2)


def test_the_bound_of_a_chain_covers_what_is_not_known_yet():
    with Stub(lambda body: "x" * 100, usage=False) as stub:
        model = LanguageModel(stub.url, "stub", max_tokens=8)
        most = chain().most(model, VALUES, {"text": "a b"})
        outcome = tw.wait(chain().run(model, VALUES, {"text": "a b"}))
    assert outcome.usage.tokens <= most.tokens


@pytest.mark.parametrize("steps", [[], [step(), step()]])
def test_wrong_programs(steps):
    with pytest.raises(StudyError):
        Program(steps)


# -- the operator --------------------------------------------------------------------------


def test_generate_is_an_operator_with_a_trainable_variable():
    with Stub() as stub:
        generate = Generate(
            LanguageModel(stub.url, "stub"),
            inputs={"text": TEXT},
            outputs={"turned": TEXT},
            instructions="Turn.",
            name="turn",
        )
        assert isinstance(generate, tw.Operator)
        assert generate.variable.trainable
        question = StructuredVariable({"text": "a b"}, {"type": "object", "properties": {"text": TEXT}})
        first = tw.wait(generate(question))
        second = tw.wait(generate(first_as_input(first)))
        generate.variable.update({"instructions": "Turn it round."})
        tw.wait(generate(question))
    assert second.json() == {"turned": "a b"}
    assert [body["messages"][0]["content"] for body in stub.requests] == ["Turn.", "Turn.", "Turn it round."]


def first_as_input(outputs):
    value = {"text": outputs.json()["turned"]}
    return StructuredVariable(value, {"type": "object", "properties": {"text": TEXT}})


def test_generate_takes_part_in_a_graph_with_arrays():
    """A field is trained by its adjoint, and the instructions beside it by reward."""

    class Penalty(tw.Operator):
        def forward(self, x, said):
            return tw.Variable(x.data**2 * len(said.json()["turned"]))

        def adjoint(self, grad, x, said):
            return 2 * x.data * len(said.json()["turned"]) * grad, None

    import numpy as np

    x = tw.Variable(np.array(3.0), needs_grad=True)
    question = StructuredVariable({"text": "a b"}, {"type": "object", "properties": {"text": TEXT}})
    with Stub() as stub:
        generate = Generate(
            LanguageModel(stub.url, "stub"), inputs={"text": TEXT}, outputs={"turned": TEXT}, instructions="Turn."
        )

        async def run():
            loss = await Penalty()(x, await generate(question))
            await loss.adjoint()

        tw.wait(run())
    assert x.grad == 18.0


def test_generate_raises_what_does_not_fit():
    with Stub(lambda body: "{}") as stub:
        generate = Generate(
            LanguageModel(stub.url, "stub"),
            inputs={"text": TEXT},
            outputs={"label": {"enum": ["Yes"]}},
            instructions="Do.",
            answer="json",
        )
        question = StructuredVariable({"text": "a"}, {"type": "object", "properties": {"text": TEXT}})
        with pytest.raises(AnswerError, match="generate: the answer"):
            tw.wait(generate(question))


# -- metrics -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected", "got", "value"),
    [
        ("exact", "Yes", "Yes", 1),
        ("exact", {"a": [1]}, {"a": [1]}, 1),
        ("exact", 1, 1.0, 0),
        ("exact", ["Yes", "Yes."], "Yes.", 1),
        ("matches", "Yes", "'YES'.", 1),
        ("matches", "Yes", "Yes sir", 0),
        ("starts_with", "No", "No, never", 1),
        ("starts_with", "No", "I say No", 0),
        ("contains", ["Rome", "Paris"], "in PARIS.", 1),
        ("numeric", 12, "12 apples", 1),
        ("numeric", "1e-3", "it is .001", 1),
        ("numeric", 12, "none", 0),
        ("numeric", 12, True, 0),
    ],
)
def test_metrics(name, expected, got, value):
    assert metrics.score(name, expected, got) == value


def test_metrics_of_ones_own(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))

    def half(expected, got):
        return 0.5

    register_metric("half", half)
    register_metric("half", half)
    assert metrics.score("half", 1, 2) == 0.5
    with pytest.raises(StudyError, match="already"):
        register_metric("exact", half)
    register_metric("bad", lambda expected, got: math.nan)
    with pytest.raises(StudyError, match="finite"):
        metrics.score("bad", 1, 2)
    with pytest.raises(StudyError, match="no metric 'worse'"):
        metrics.score("worse", 1, 2)
    with pytest.raises(StudyError, match="finite"):
        metrics.score("exact", [], 2)


# -- data ----------------------------------------------------------------------------------

ROWS = [{"input": [{"content": "be short"}, {"content": f"q{i}"}], "ideal": "ab"[i % 2]} for i in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def test_rows_of_a_file_of_a_wheel_and_of_a_package(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text("\n" + LINES)
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as file:
        file.writestr("inside/of/rows.jsonl", LINES)
    package = tmp_path / "has_rows" / "sub"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "rows.jsonl").write_text(LINES)
    monkeypatch.syspath_prepend(tmp_path)
    for name in (
        "rows.jsonl",
        str(tmp_path / "rows.jsonl"),
        "some.whl/inside/of/rows.jsonl",
        "has_rows:sub/rows.jsonl",
        "has_rows.sub:rows.jsonl",
    ):
        assert read_rows(name, tmp_path) == ROWS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (b'{"a": 1}\n{"a": \n', "line 2 of"),
        (b'{"a": NaN}\n', "line 1 of"),
        (b"\xff\xfe\n", "line 1 of"),
        (b"\n\n", "has no rows"),
    ],
)
def test_bad_files(tmp_path, content, words):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(StudyError, match=words):
        read_rows("rows.jsonl", tmp_path)


@pytest.mark.parametrize("name", ["gone.jsonl", "some.whl/gone.jsonl", "no_such_package:rows.jsonl", "."])
def test_data_that_is_not_there(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as file:
        file.writestr("rows.jsonl", LINES)
    with pytest.raises(StudyError, match=r"problem\.data"):
        read_rows(name, tmp_path)


def test_fields_by_path_and_each_row_once():
    fields = {"question": "input.1.content", "answer": "ideal"}
    found = records(ROWS + ROWS[:2], fields)
    assert found == [{"question": f"q{i}", "answer": "ab"[i % 2]} for i in range(6)]
    assert records(ROWS, {"first": "input.-1.content"})[0] == {"first": "q0"}
    with pytest.raises(StudyError, match=r"problem\.fields\.question: row 0 has nothing at 'input\.2\.content'"):
        records(ROWS, {"question": "input.2.content"})


def test_dealing_is_by_seed_and_without_overlap():
    parts = deal(100, (20, 30, 40), 7)
    assert parts == deal(100, (20, 30, 40), 7) != deal(100, (20, 30, 40), 8)
    assert [len(part) for part in parts] == [20, 30, 40]
    assert len({index for part in parts for index in part}) == 90
    with pytest.raises(StudyError, match=r"20 \+ 30 \+ 51 = 101"):
        deal(100, (20, 30, 51), 0)
