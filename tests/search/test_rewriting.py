"""Rewriting by a model that answers well, badly, twice the same, or not at all."""

import json

import pytest

import thalweg as tw
from thalweg.checkpoints import canonical
from thalweg.errors import SearchError, StateMismatchError
from thalweg.lm import LanguageModel, Prices, Spending
from thalweg.lm.stub import Reply, Stub
from thalweg.search.budget import Spent
from thalweg.search.engine import Told
from thalweg.search.engines import engine_class
from thalweg.search.rewriting import Rewrite
from thalweg.search.rewritten import RewriteCounts
from thalweg.search.space import Space
from thalweg.search.structured import StructuredVariable

TEXT = {"type": "string", "minLength": 1, "maxLength": 60}
EXAMPLES = {"type": "array", "items": {"enum": [{"a": 1}, {"a": 2}]}, "uniqueItems": True, "maxItems": 2}


def variable(name="step", **properties):
    properties = properties or {"instructions": TEXT, "examples": EXAMPLES}
    value = {"instructions": "Answer. Be short.", "examples": [{"a": 2}]}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "description": "whether it is food",
    }
    start = {key: value.get(key, part.get("default")) for key, part in properties.items()}
    return StructuredVariable(start, schema, name=name)


def make(stub, *variables, seed=0, model=None, **options):
    variables = variables or (variable(),)
    options = {"choose_examples": False, **options}
    engine = Rewrite(Space.of_variables(variables), seed=seed, start={v.name: v.json() for v in variables}, **options)
    engine.model = LanguageModel(stub.url, "stub", retries=0, **(model or {})) if "lm" not in options else engine.model
    return engine


def ask(engine, count=1):
    return tw.wait(engine.ask(count))


def text(candidate, name="step"):
    return candidate.values[name]["instructions"]


def counting(body):
    """New instructions at every sample."""
    return json.dumps({"instructions": f"Version {body['seed']}."})


def test_it_is_registered():
    assert engine_class("rewrite") is Rewrite


def test_the_model_rewrites_texts_and_leaves_examples_alone():
    with Stub(counting) as stub:
        engine = make(stub)
        start, first, second = ask(engine, 3)
    assert start.values["step"] == {"instructions": "Answer. Be short.", "examples": [{"a": 2}]}
    assert (first.origin, second.origin) == ("rewritten", "rewritten")
    assert text(first) != text(second)
    assert first.values["step"]["examples"] == [{"a": 2}]
    schema = stub.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"instructions": TEXT}
    assert schema["required"] == ["instructions"]
    assert engine.counts == RewriteCounts(accepted=2)
    assert engine.spent == Spent(tokens=engine.model.spending.used.tokens)


def test_it_is_shown_the_scored_history_and_the_feedback_of_the_best():
    with Stub(counting) as stub:
        engine = make(stub, history=2, remarks=2)
        ask(engine, 3)
        engine.tell(
            [
                Told(0, 0.25, ("for a pear: expected Yes, got No",)),
                Told(1, 0.75, ("for an axe: expected No, got Yes", "second", "third")),
                Told(2, 0.5, ("not shown",)),
            ]
        )
        ask(engine)
        shown = stub.requests[-1]["messages"][-1]["content"]
    lines = shown.splitlines()
    assert "whether it is food" in lines[0]
    tried = [line for line in lines if line.startswith("- reward")]
    assert tried == [
        '- reward 0.5: {"instructions":"Version 4."}',
        '- reward 0.75: {"instructions":"Version 2."}',
    ]
    assert "- for an axe: expected No, got Yes" in lines
    assert "- second" in lines
    assert "third" not in shown
    assert "not shown" not in shown


@pytest.mark.parametrize("samples", [(), ((0, 0.8),)], ids=["only another mean", "its samples without a word"])
def test_what_was_said_of_a_candidate_stays_until_its_samples_are_told_again(samples):
    with Stub(counting) as stub:
        engine = make(stub)
        ask(engine)
        engine.tell([Told(0, 0.25, ("expected Yes, got No",), ((0, 0.25),))])
        engine.tell([Told(0, 0.8, (), samples)])
        ask(engine)
        shown = stub.requests[-1]["messages"][-1]["content"]
    assert "- reward 0.8: " in shown
    assert ("expected Yes, got No" in shown) == (not samples)


def test_the_first_question_has_the_present_value_without_a_reward():
    with Stub(counting) as stub:
        ask(make(stub), 2)
    assert (
        '- the present value, not scored yet: {"instructions":"Answer. Be short."}'
        in (stub.requests[0]["messages"][-1]["content"])
    )


def test_the_best_is_what_is_changed():
    with Stub(counting) as stub:
        engine = make(stub, variable("a"), variable("b"))
        _, first = ask(engine, 2)
        engine.tell([Told(0, 0.0), Told(1, 1.0)])
        (second,) = ask(engine)
        assert text(second, "a") == text(first, "a") != "Answer. Be short."
        assert text(second, "b") != "Answer. Be short."
        engine.tell([Told(2, 0.5)])
        (third,) = ask(engine)
    assert text(third, "b") == "Answer. Be short."
    assert text(third, "a") != text(first, "a")


@pytest.mark.parametrize(
    ("answers", "counts", "origin"),
    [
        (["no JSON", '{"instructions": "Good."}'], RewriteCounts(accepted=1, repaired=1), "rewritten"),
        (
            ["bad", "bad", '{"instructions": "Good."}'],
            RewriteCounts(accepted=1, repaired=1, repeated=1),
            "rewritten",
        ),
        (
            [r'{"instructions": "Cheer \ud83d up."}', '{"instructions": "Good."}'],
            RewriteCounts(accepted=1, repaired=1),
            "rewritten",
        ),
        (
            [r'{"instructions": "Cheer \ud83d up."}'] * 4,
            RewriteCounts(repaired=2, repeated=1, replaced=1),
            "without a model (the model's answer was invalid)",
        ),
        (
            ['{"instructions": ""}'] * 4,
            RewriteCounts(repaired=2, repeated=1, replaced=1),
            "without a model (the model's answer was invalid)",
        ),
        (
            ['{"instructions": "Answer. Be short."}'] * 2,
            RewriteCounts(repeated=1, replaced=1),
            "without a model (the model repeated itself)",
        ),
        (
            ['{"instructions": "Answer. Be short."}', '{"instructions": "Good."}'],
            RewriteCounts(accepted=1, repeated=1),
            "rewritten",
        ),
    ],
)
def test_bad_answers_are_repaired_then_asked_again_then_replaced(answers, counts, origin):
    left = list(answers)
    with Stub(lambda body: left.pop(0)) as stub:
        engine = make(stub)
        ask(engine)
        engine.tell([Told(0, 0.5)])
        (candidate,) = ask(engine)
    assert not left
    assert engine.counts == counts
    assert candidate.origin == origin
    assert engine.spent.tokens == engine.model.spending.used.tokens > 0
    assert text(candidate) != "Answer. Be short."
    engine.space.check(candidate.values)


@pytest.mark.parametrize("trouble", ["500", "gone", "budget", "401"])
def test_a_model_that_is_not_there_ends_nothing(trouble, monkeypatch):
    script = [Reply(500 if trouble == "500" else 401)] * 100 if trouble in ("500", "401") else []
    model = {"spending": Spending(tokens=10)} if trouble == "budget" else {}
    with Stub(counting, script=script) as stub:
        engine = make(stub, model=model)
        if trouble == "gone":
            engine.model = LanguageModel("http://127.0.0.1:9/v1", "gone", retries=0)
        found = []
        for _ in range(12):
            candidates = ask(engine, 2)
            engine.tell([Told(c.number, len(text(c)) / 100) for c in candidates])
            found += candidates
    texts = [(text(c), json.dumps(c.values)) for c in found]
    assert len(set(texts)) == 24
    assert all(c.origin.startswith("without a model (there was no answer: ") for c in found[1:])
    assert engine.counts == RewriteCounts(replaced=23)
    assert engine.metrics()["rewrite_replaced"] == 23.0


@pytest.mark.parametrize("first", [Reply(drop=True), None], ids=["the question", "the repair"])
def test_what_broke_off_may_have_been_paid_for_and_is_counted(first):
    prices = Prices(prompt=1.0, completion=2.0)
    with Stub(lambda body: "nonsense", script=[first, Reply(drop=True)]) as stub:
        engine = make(stub, model={"spending": Spending(prices=prices)})
        ask(engine)
        engine.tell([Told(0, 0.5)])
        most = engine.most_ask(1)
        (candidate,) = ask(engine)
    used = engine.model.spending.used
    assert candidate.origin.startswith("without a model (there was no answer: ")
    assert engine.spent == Spent(tokens=used.tokens, money=prices.money(used))
    assert 0 < engine.spent.tokens <= most.tokens


def test_candidates_that_are_asked_for_at_once_are_different():
    with Stub(lambda body: '{"instructions": "Always the same."}') as stub:
        engine = make(stub)
        candidates = ask(engine, 4)
    texts = [text(c) for c in candidates]
    assert len({json.dumps(c.values) for c in candidates}) == 4
    assert texts.count("Always the same.") >= 1
    assert engine.counts.accepted == 1
    assert engine.counts.replaced == 2


def test_the_bound_is_kept():
    with Stub(lambda body: "x " * 500, usage=False) as stub:
        engine = make(stub, max_tokens=20)
        for _ in range(3):
            most, before = engine.most_ask(2), engine.spent
            for c in ask(engine, 2):
                engine.tell([Told(c.number, 0.1, ("a remark",))])
            assert engine.spent.tokens - before.tokens <= most.tokens
    assert engine.spent.tokens > 0


def test_all_that_a_schema_leaves_free_is_rewritten():
    with Stub(lambda body: '{"rate": 0.5, "mode": "b"}') as stub:
        engine = make(
            stub,
            variable(
                rate={"type": "number", "minimum": 0, "maximum": 1, "default": 0.1},
                mode={"enum": ["a", "b"], "default": "a"},
                fixed={"const": 3, "default": 3},
            ),
        )
        candidate = ask(engine, 2)[1]
        assert candidate.values["step"] == {"rate": 0.5, "mode": "b", "fixed": 3}
        engine.tell([Told(0, 0.0), Told(1, 1.0)])
        (other,) = ask(engine)  # the model repeats itself: the space is drawn from
    assert other.origin == "without a model (the model repeated itself)"
    assert other.values["step"]["fixed"] == 3
    assert other.values != candidate.values


@pytest.mark.parametrize("told", [1, 3, 6])
def test_a_restored_engine_goes_on_to_the_same_candidates(told, tmp_path):
    """With the answers recorded nothing is asked again."""

    def answer(body):
        return "no JSON" if body["seed"] % 3 == 0 else counting(body)

    def steps(engine, first, last):
        found = []
        for number in range(first, last):
            (candidate,) = ask(engine)
            found.append(candidate)
            engine.tell([Told(candidate.number, (number * 7 % 5) / 5, (f"remark {number}",))])
        return found

    with Stub(answer) as stub:
        whole, first, second = (make(stub, seed=4, model={"cache": tmp_path}) for _ in range(3))
        expected = steps(whole, 0, 9)
        sent = len(stub.requests)
        steps(first, 0, told)
        second.restore(json.loads(json.dumps(first.state())))
        assert steps(second, told, 9) == expected[told:]
        assert len(stub.requests) == sent
        assert second.state() == whole.state()
        for engine in (whole, first, second):
            engine.model.close()
    assert whole.counts.replaced + whole.counts.accepted == 8


TWO = StructuredVariable(
    {"role": "You are a judge. You are fair. You read well.", "format": "Answer Yes or No. Be short. No dots."},
    {"type": "object", "properties": {"role": {"type": "string"}, "format": {"type": "string"}}},
    name="step",
)


@pytest.mark.parametrize(
    "answer",
    ["no JSON", '{"format": "Yes or no? One word.", "role": "You see. You judge."}'],
    ids=["none", "an answer"],
)
def test_a_restored_engine_goes_on_to_the_same_candidates_in_whatever_order_keys_were_written_down(answer):
    def steps(engine, first, last):
        found = []
        for number in range(first, last):
            (candidate,) = ask(engine)
            found.append(candidate)
            engine.tell([Told(candidate.number, (number * 7 % 5) / 5)])
        return found

    with Stub(lambda body: answer) as stub:
        whole, second = (make(stub, TWO, attempts=1, repairs=0) for _ in range(2))
        steps(whole, 0, 3)
        second.restore(json.loads(canonical(whole.state())))
        assert steps(second, 3, 12) == steps(whole, 3, 12)


MODES = StructuredVariable(
    {"mode": "a"},
    {"type": "object", "properties": {"mode": {"enum": ["a", "b"]}}, "additionalProperties": False},
    name="mode",
)


def modes_and_texts(body):
    asked = body["messages"][-1]["content"].splitlines()[0]
    return '{"mode": "b"}' if '"mode"' in asked else counting(body)


def told(engine, candidates, worth):
    engine.tell([Told(candidate.number, worth(candidate.values)) for candidate in candidates])
    return candidates


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_variable_of_which_all_was_tried_is_left_out_until_there_is_another_best(count):
    def worth(values):
        return 1.0 if values["step"]["instructions"] == "Answer. Be short." else 0.0

    with Stub(modes_and_texts) as stub:
        engine = make(stub, MODES, variable())
        found = [one for _ in range(8) for one in told(engine, ask(engine, count), worth)]
        asked = [body["messages"][-1]["content"].splitlines()[0] for body in stub.requests]
        assert len(found) == 8 * count
        assert not engine.exhausted
        modes = [one.values["mode"]["mode"] for one in found]
        assert modes.count("b") == 1
        assert sum('"mode"' in line for line in asked) <= 2, "once, unless two are asked for at the same time"
        assert engine.counts.accepted >= 8 * count - 2
        told(engine, ask(engine, 1), lambda values: 2.0)
        (again,) = ask(engine, 1)
        assert again.values["mode"] == {"mode": "b"}, "with the new text"
        assert engine.spent.tokens == engine.model.spending.used.tokens


def test_a_turn_that_finds_nothing_new_leaves_the_answers_of_others_and_their_cost():
    """Three at once: the second has to do something else, the third is the model's."""
    with Stub(modes_and_texts) as stub:
        engine = make(stub, MODES, variable("p"), variable("q"))
        found = [one for _ in range(10) for one in told(engine, ask(engine, 3), lambda values: 0.0)]
        assert len(found) == len({json.dumps(one.values) for one in found}) == 30
        assert engine.spent.tokens == engine.model.spending.used.tokens
        assert engine.counts.replaced + engine.counts.accepted == 29


def test_all_points_of_a_finite_space_are_tried_before_nothing_is_left():
    """Not only those that differ from the best in one thing."""
    other = StructuredVariable({"mode": "a"}, MODES.schema(), name="other")
    with Stub(lambda body: '{"mode": "b"}') as stub:
        engine = make(stub, MODES, other)
        found = [one for _ in range(6) for one in told(engine, ask(engine), lambda values: 0.0)]
        assert engine.exhausted
        points = {(one.values["mode"]["mode"], one.values["other"]["mode"]) for one in found}
        assert points == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
        assert len(found) == 4
        assert engine.spent.tokens == engine.model.spending.used.tokens


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s["engine"]["tried"].pop(),
        lambda s: s["engine"]["tried"][0]["step"].update(instructions="other"),
        lambda s: s["engine"]["visits"].clear(),
        lambda s: s["engine"]["counts"].update(more=1),
        lambda s: s["engine"]["spent"].update(tokens=-1),
    ],
)
def test_a_damaged_state_changes_nothing(damage):
    with Stub(counting) as stub:
        engine = make(stub)
        ask(engine, 3)
        before = engine.state()
        state = json.loads(json.dumps(before))
        damage(state)
        with pytest.raises((StateMismatchError, SearchError)):
            engine.restore(state)
    assert engine.state() == before


def test_examples_are_chosen_in_turn_with_texts():
    pool = [{"a": k} for k in range(8)]
    shelf = {"type": "array", "items": {"enum": pool}, "uniqueItems": True, "maxItems": 3}
    value = {"instructions": "Answer. Be short.", "examples": []}
    schema = {"type": "object", "properties": {"instructions": TEXT, "examples": shelf}}
    step = StructuredVariable(value, schema, name="step")

    def worth(values):
        step = values["step"]
        return step["instructions"].startswith("Version") + sum(e["a"] in (2, 5) for e in step["examples"])

    def search(stub, state=None, rounds=40):
        engine = make(stub, step, choose_examples=True)
        found = []
        for number in range(rounds):
            if state is not None and number == rounds // 2:
                before = engine
                engine = make(stub, step, choose_examples=True)
                engine.restore(json.loads(json.dumps(before.state())))
            (candidate,) = ask(engine)
            engine.tell([Told(candidate.number, float(worth(candidate.values)))])
            found.append(candidate)
        return engine, found

    with Stub(counting) as stub:
        engine, found = search(stub)
        _, again = search(stub, state=True)
    assert found == again
    assert [c.origin for c in found[:5]] == ["the start", "rewritten", "other examples", "rewritten", "other examples"]
    assert max(worth(c.values) for c in found) == 3
    assert engine.counts.accepted == 20


def test_texts_go_on_when_every_choice_of_examples_was_there():
    with Stub(counting) as stub:
        engine = make(stub, choose_examples=True)
        found = []
        for _ in range(30):
            candidates = ask(engine)
            engine.tell([Told(c.number, 0.0) for c in candidates])
            found += candidates
    assert len(found) == 30
    assert len({json.dumps(c.values) for c in found}) == 30
    assert sum(c.origin == "other examples" for c in found) == 3  # of 4 that there are, one is the start's


def test_a_failing_ask_changes_nothing():
    with Stub(counting) as stub:
        engine = make(stub)
        engine.model = None
        before = engine.state()
        with pytest.raises(SearchError, match="has no model"):
            ask(engine)
        assert engine.state() == before


def test_lm_makes_a_model():
    with Stub(counting) as stub:
        engine = make(stub, lm={"base_url": stub.url, "model": "stub"})
        assert ask(engine, 2)[1].origin == "rewritten"
        engine.close()


@pytest.mark.parametrize(
    ("lm", "words"),
    [
        (
            {"base_url": "http://127.0.0.1/v1", "model": "m", "api_key": "sk-word"},
            r"lm has api_key, which .*api_key_env",
        ),
        (
            {"base_url": "http://127.0.0.1/v1", "model": "m", "spending": {"tokens": "sk-word"}},
            "lm has spending, which",
        ),
        (
            {"url": "sk-word", "model": "m"},
            "lm has url, which a language model does not take; it takes base_url, model",
        ),
        ({"model": "sk-word"}, "lm has no base_url"),
        ({"base_url": "http://127.0.0.1/v1", "model": "m", "extra": 3}, "lm has a value of a wrong kind"),
        ("sk-word", "lm is a str; give a table"),
    ],
)
def test_a_wrong_model_is_named_without_what_may_be_a_secret(lm, words):
    with Stub() as stub, pytest.raises(SearchError, match=words) as caught:
        make(stub, lm=lm)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"base_url": "http://127.0.0.1:9/other"}, True),
        ({"timeout": 9.0, "retries": 0, "concurrency": 1, "cache": "elsewhere"}, True),
        ({"seed": 0, "constrain": True}, True),
        ({"model": "another"}, False),
        ({"extra": {"top_p": 0.5}}, False),
        ({"seed": 1}, False),
    ],
)
def test_a_search_goes_on_with_a_server_that_has_moved_and_not_with_another_model(change, fits):
    lm = {"base_url": "http://127.0.0.1:9/v1", "model": "stub"}
    with Stub(counting) as stub:
        state, engine = make(stub, lm=lm).state(), make(stub, lm={**lm, **change})
    if fits:
        engine.restore(json.loads(json.dumps(state)))
        assert engine.state() == state
    else:
        with pytest.raises(StateMismatchError, match="options"):
            engine.restore(state)


@pytest.mark.parametrize("history", [1, 8])
def test_the_bound_of_a_candidate_covers_a_full_history_of_texts_like_the_start(history):
    """Answers as long as the start, remarks as long as they are shown, and in bytes as well."""

    def answer(body):
        return json.dumps({"instructions": f"Answer. Be {body['seed']:5}."})

    with Stub(answer, usage=False) as stub:
        engine = make(stub, history=history, attempts=1, max_tokens=20)
        each = engine.most_each()
        most = []
        for number in range(12):
            most.append(engine.most_ask(1).tokens)
            (candidate,) = ask(engine)
            assert len(text(candidate)) == len("Answer. Be short.")
            engine.tell([Told(candidate.number, -1.234e-9 * number, ("\U0001f600" * 400,) * 5)])
    assert most[0] == 0, "the start is not asked for"
    assert max(most) <= each.tokens
    assert max(most) > 0.95 * each.tokens
    assert engine.spent.tokens <= 11 * each.tokens


def test_it_begins_anew_with_the_model_that_it_was_given():
    with Stub(counting) as stub:
        engine = make(stub)
        model, fresh = engine.model, engine.state()
        engine.tell([Told(candidate.number, 0.5) for candidate in ask(engine, 3)])
        engine.begin_anew()
        assert engine.state() == fresh
        assert engine.model is model
        assert [one.origin for one in ask(engine, 2)] == ["the start", "rewritten"]
    assert "not scored yet" in stub.requests[-1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "options",
    [{"history": 0}, {"remarks": -1}, {"attempts": 0}, {"repairs": True}, {"temperature": -1}, {"max_tokens": 0}],
)
def test_wrong_options(options):
    with Stub() as stub, pytest.raises(SearchError):
        make(stub, **options)


def test_nothing_to_rewrite():
    with Stub() as stub, pytest.raises(SearchError, match="nothing to rewrite"):
        make(stub, variable(examples=EXAMPLES))
    space = Space.of({"type": "object", "properties": {"x": {"enum": [1, 2]}}}, name="step")
    with pytest.raises(SearchError, match="give start"):
        Rewrite(space, seed=0)
