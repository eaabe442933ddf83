"""What decides a reward of a program, and so whether a known result is used again: all that, and nothing else."""

import json

import pytest

import thalweg as tw
from tests.problems.programs.labels import answer, document, rows
from thalweg.errors import RunError
from thalweg.lm.stub import Stub
from thalweg.problems.programs.serving import find_weights
from thalweg.runs import History, Run, Study
from thalweg.search import digest_json

URL = "http://127.0.0.1:9/v1"
TEXT = {"type": "string"}


def decided(folder, change=lambda problem: None, *overrides):
    """What decides a reward of the study after a change."""
    table = document(folder, URL)
    change(table["problem"])
    study = Study.from_document(table, folder=folder, overrides=overrides)
    problem = study.build_problem()
    return digest_json([problem.decisive(study.settings.problem), study.settings.seed, problem.fingerprint()])


def step(**changes):
    return lambda problem: problem["steps"][0].update(changes)


def lm(**changes):
    return lambda problem: problem["lm"].update(changes)


def of(**changes):
    return lambda problem: problem.update(changes)


def two_inputs(*order):
    def change(problem):
        problem["fields"]["hint"] = "q"
        problem["steps"][0] |= {"inputs": dict.fromkeys(order, TEXT), "examples": 0}

    return change


def answers_json(problem):
    problem["steps"][0] |= {"answer": "json"}


DECIDES = {
    "the model": lm(model="another"),
    "the temperature": lm(temperature=0.5),
    "the length of an answer": lm(max_tokens=5),
    "the length of a step's answer": step(max_tokens=5),
    "how the length is asked for": lm(limit_key="max_completion_tokens"),
    "other keys of requests": lm(extra={"top_p": 0.9}),
    "the metric": of(metric="matches"),
    "what is expected": of(expected={"color": "question"}),
    "who is dealt where": of(split_seed=7),
    "the seed": lambda problem: None,
    "the size of the parts": of(train=10, held_out=10),
    "the fields": of(fields={"question": "q", "answer": "q"}),
    "an input's schema": step(inputs={"question": {"type": "string", "maxLength": 99}}),
    "an output's schema": step(outputs={"color": {"type": "string", "maxLength": 99}}),
    "how it is answered": answers_json,
    "a step's name": step(name="say_it"),
}
OVERRIDES = {"the seed": ["seed=2"]}


@pytest.mark.parametrize("what", sorted(DECIDES))
def test_whatever_changes_an_answer_or_its_score_decides(tmp_path, what):
    before = decided(tmp_path)
    assert before == decided(tmp_path)
    assert decided(tmp_path, DECIDES[what], *OVERRIDES.get(what, [])) != before


DECIDES_NOTHING = {
    "the address": lm(base_url="http://127.0.0.1:10/v1"),
    "the key": lm(api_key_env="A_KEY"),
    "the timeout": lm(timeout=1.0),
    "the retries": lm(retries=0, paid_retries=0),
    "how many at once": lm(concurrency=3, threads=2),
    "the prices": lm(price_prompt=1.0, price_completion=2.0),
    "where answers are kept": lm(cache="elsewhere"),
    "a default that is spelled out": lm(temperature=0.0, constrain=True),
    "constraints on an answer in text": lm(constrain=False),
    "where instructions begin": step(instructions="Say a color."),
    "how many examples": step(examples=2),
    "which examples": of(examples_from=10),
    "what a step is for": step(description="names colors"),
    "a length that every step has anew": lambda problem: (step(max_tokens=4)(problem), lm(max_tokens=9)(problem)),
}


@pytest.mark.parametrize("what", sorted(DECIDES_NOTHING))
def test_nothing_else_does(tmp_path, what):
    assert decided(tmp_path, DECIDES_NOTHING[what]) == decided(tmp_path)


def test_the_content_of_the_data_decides_and_its_name_does_not(tmp_path):
    before = decided(tmp_path)

    def elsewhere(change):
        lines = rows()
        change(lines)
        (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        return decided(tmp_path, of(data="other.jsonl"))

    assert elsewhere(lambda lines: None) == before
    assert elsewhere(lambda lines: lines[0].update(unused="a")) == before
    assert elsewhere(lambda lines: lines[3].update(a="pink")) != before


def test_the_order_of_inputs_is_that_of_the_prompt_and_decides(tmp_path):
    one, other = (decided(tmp_path, two_inputs(*order)) for order in (("question", "hint"), ("hint", "question")))
    assert one != other


def test_constraints_on_an_answer_in_json_decide(tmp_path):
    def free(problem):
        answers_json(problem)
        lm(constrain=False)(problem)

    assert decided(tmp_path, free) != decided(tmp_path, answers_json)


def test_other_weights_of_the_same_name_are_another_model(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    names = set()
    for content in (b"GGUF", b"GGUF" + bytes(3 << 20), b"GGUF" + bytes((3 << 20) - 1) + b"1"):
        (tmp_path / "tiny.gguf").write_bytes(content)
        path, name = find_weights("tiny.gguf", tmp_path)
        assert path == tmp_path / "tiny.gguf"
        assert name.startswith("tiny-")
        names.add(name)
    assert len(names) == 3


def test_a_run_goes_on_elsewhere_with_what_it_knows_and_scores_anew_by_another_metric(tmp_path):
    """Stopped by its budget within an iteration, whose results are known and not used yet."""
    study = document(tmp_path, "")
    study["budget"] = {"evaluations": 140 + 60 + 7}  # for the final choice, one iteration, a part of the next
    with Stub(answer) as one, Stub(answer) as other:
        study["problem"]["lm"]["base_url"] = one.url
        tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
        known = {(row.key, row.item) for row in History(tmp_path / "run").evaluations()}
        elsewhere = [f'problem.lm.base_url="{other.url}"', "problem.lm.concurrency=1", "budget.evaluations=600"]
        outcome = tw.wait(Run.resume(tmp_path / "run", overrides=elsewhere).execute())
        again = History(tmp_path / "run").evaluations()
        assert len(again) == len({(row.key, row.item) for row in again}) > len(known), "none was made twice"
        assert "unused" not in outcome.summary["search"]
        changed = ['problem.metric="contains"', "blocks.0.iterations=9", "budget.evaluations=2000"]
        tw.wait(Run.resume(tmp_path / "run", overrides=changed).execute())
        keys = {row.key for row in History(tmp_path / "run").evaluations()[len(again) :]}
    assert keys
    assert not keys & {row.key for row in again}


def goes_on(folder, *overrides):
    return tw.wait(Run.resume(folder / "run", overrides=overrides).execute()).summary["search"]


def test_other_rows_are_named_by_the_data_and_whatever_else_is_named_by_its_own_key(tmp_path):
    """The rows are what the program shows as examples, so with others the space is another one, too."""
    with Stub(answer) as stub:
        study = document(tmp_path, stub.url)
        tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
        lines = [{**row, "q": row["q"].upper()} for row in rows()]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        for named in ("problem.lm.timeout=99.0", "problem.lm.max_tokens=5", "problem.train=20"):
            with pytest.raises(RunError, match=r"(?s)digest of the data.*--set problem\.data=\.\.\."):
                goes_on(tmp_path, "blocks.0.iterations=7", named)
        search = goes_on(tmp_path, "blocks.0.iterations=7", "problem.data=rows.jsonl")
        assert search["not_compared"] == 15
        shown = [example["inputs"]["question"] for example in search["winner"]["values"]["name_it"]["examples"]]
        assert shown
        assert all(text == text.upper() for text in shown)
        before = 15 + 6
        for more, named in enumerate(
            [
                "problem.lm.max_tokens=5",
                'problem.lm.model="another"',
                'problem.steps.0.inputs.question.description="what is asked"',
                "problem.train=18",
                "problem.split_seed=3",
                'problem.metric="contains"',
            ]
        ):
            assert goes_on(tmp_path, f"blocks.0.iterations={8 + more}", named)["not_compared"] == before, named
            before += 3
        assert goes_on(tmp_path, "blocks.0.iterations=15", "problem.lm.timeout=99.0")["not_compared"] == before - 3
