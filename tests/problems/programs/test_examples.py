"""Examples of a step that goes on with what a step before has answered."""

import json

import pytest

import thalweg as tw
from thalweg.errors import StudyError
from thalweg.lm.stub import Stub
from thalweg.runs import Study
from thalweg.runtime import Local

TEXT = {"type": "string"}
FIELDS = {"text": "t", "label": "topics", "reply": "a"}
EXPECTED = {"topic": "label", "reply": "reply"}


def build(folder, url="http://127.0.0.1:9/v1", fields=FIELDS, expected=EXPECTED, second=None, **more):
    rows = [{"t": f"text {i}", "topics": [f"topic {i % 2}", "any"], "a": f"reply {i % 2}"} for i in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [
        {"name": "one", "instructions": "Which topic?", "inputs": {"text": TEXT}, "outputs": {"topic": TEXT}},
        {
            "name": "two",
            "instructions": "Reply.",
            "inputs": second or {"text": TEXT, "topic": TEXT},
            "outputs": {"reply": TEXT},
            "examples": 2,
        },
    ]
    parts = {"train": 10, "held_out": 4, "test": 4, "fields": fields, "expected": expected, "steps": steps}
    problem = {"kind": "program", "data": "rows.jsonl", "lm": {"base_url": url, "model": "m"}, **parts}
    document = {"title": "two steps", "problem": problem, "optimizer": {"kind": "few_shot"}, **more}
    return Study.from_document({**document, "blocks": [{"iterations": 2}]}, folder=folder).build_problem()


def pool(problem):
    return problem.variables[1].schema()["properties"]["examples"]["items"]["enum"]


def messages(problem, item, examples):
    """What the second step sends for a row, with these examples."""
    values = {str(variable.name): variable.json() for variable in problem.variables}
    values["two"]["examples"] = examples
    with Stub(lambda body: "topic 1") as stub, Local(threads=1) as runtime:
        problem._model = problem._connect(stub.url, "m")
        tw.wait(problem.reward(values, item, runtime))
        problem.close()
    return [message["content"] for message in stub.requests[1]["messages"]]


def test_an_input_that_a_step_before_gives_is_shown_as_it_should_have_been(tmp_path):
    problem = build(tmp_path)
    row = problem.rows[0]
    assert row["label"][1] == "any"
    expected = {"inputs": {"text": row["text"], "topic": row["label"][0]}, "outputs": {"reply": row["reply"]}}
    assert pool(problem)[0] == expected
    assert len(pool(problem)) == 10


def test_a_row_is_not_shown_itself_in_a_later_step(tmp_path):
    problem = build(tmp_path)
    shown = pool(problem)[:2]
    assert len(messages(problem, 0, shown)) == 1 + 2 + 1, "the other example only"
    sent = messages(problem, 5, shown)
    assert len(sent) == 1 + 4 + 1
    assert sent[1] == f"text: {problem.rows[0]['text']}\ntopic: {problem.rows[0]['label'][0]}"
    assert sent[-1] == f"text: {problem.rows[5]['text']}\ntopic: topic 1", "what the step before has answered"


def test_the_rows_own_field_is_shown_where_nothing_else_is_expected_of_the_step_before(tmp_path):
    problem = build(tmp_path, fields={**FIELDS, "topic": "t"}, expected={"reply": "reply"})
    assert pool(problem)[0]["inputs"]["topic"] == problem.rows[0]["text"]


def test_a_field_that_a_later_step_has_as_an_output_is_still_the_rows_own(tmp_path):
    fields = {**FIELDS, "reply": "t", "answer": "a"}
    problem = build(tmp_path, fields=fields, expected={"reply": "answer"}, second={"reply": TEXT})
    assert pool(problem)[0] == {
        "inputs": {"reply": problem.rows[0]["text"]},
        "outputs": {"reply": problem.rows[0]["answer"]},
    }


def test_what_the_data_has_no_labels_for_is_named(tmp_path):
    with pytest.raises(StudyError, match="two is to show examples, and the data has no topic"):
        build(tmp_path, expected={"reply": "reply"})
