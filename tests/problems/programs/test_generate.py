"""Examples of the operator Generate: shown to the model, trainable, chosen by a search from the pool."""

import itertools

import pytest

import thalweg as tw
from thalweg.errors import ValueMismatchError
from thalweg.lm import LanguageModel
from thalweg.lm.stub import Stub
from thalweg.problems.programs import Generate
from thalweg.search import Search, Space, StructuredVariable
from thalweg.search.engine import Told
from thalweg.search.few_shot import FewShot

TEXT = {"type": "string"}
COLORS = {"ka": "red", "lu": "green", "mi": "blue", "no": "grey", "pa": "pink", "ro": "black"}


def example(kind, number=0):
    return {"inputs": {"text": f"{kind} {number}"}, "outputs": {"label": COLORS[kind]}}


POOL = [example(kind) for kind in COLORS]


def knows(body):
    """The answer of the last example of the same kind, or that it does not know."""
    *shown, last = body["messages"]
    known = "unknown"
    for asked, answered in itertools.pairwise(shown[1:]):
        if asked["role"] == "user" and asked["content"].split()[0] == last["content"].split()[0]:
            known = answered["content"]
    return known


def make(url, **options):
    options = {"inputs": {"text": TEXT}, "outputs": {"label": TEXT}, "instructions": "Name it.", **options}
    return Generate(LanguageModel(url, "stub"), name="name_it", **options)


def question(text):
    return StructuredVariable({"text": text}, {"type": "object", "properties": {"text": TEXT}})


def sent(body):
    return [(message["role"], message["content"]) for message in body["messages"]]


def turns(*examples):
    return [
        turn for one in examples for turn in (("user", one["inputs"]["text"]), ("assistant", one["outputs"]["label"]))
    ]


# -- what the model is sent ----------------------------------------------------------------


@pytest.mark.parametrize("pool", [(), POOL], ids=["any", "of a pool"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_examples_are_in_the_prompt_in_their_order(pool, count):
    shown = [POOL[k] for k in (4, 0, 2)[:count]]
    with Stub(knows) as stub:
        generate = make(stub.url, examples=shown, pool=pool, most=3)
        answers = [tw.wait(generate(question(text))).json() for text in ("pa 7", "ka 1", "lu 1")]
    assert generate.variable.json() == {"instructions": "Name it.", "examples": shown}
    assert [sent(body) for body in stub.requests] == [
        [("system", "Name it."), *turns(*shown), ("user", text)] for text in ("pa 7", "ka 1", "lu 1")
    ]
    assert answers == [{"label": label} for label in ("pink", "red" if count == 3 else "unknown", "unknown")]


def test_without_examples_there_are_none():
    with Stub(knows) as stub:
        assert tw.wait(make(stub.url)(question("pa 7"))).json() == {"label": "unknown"}
        tw.wait(make(stub.url, pool=POOL, most=2)(question("pa 7")))
    assert [sent(body) for body in stub.requests] == [[("system", "Name it."), ("user", "pa 7")]] * 2


def test_other_examples_make_another_prompt():
    with Stub(knows) as stub:
        generate = make(stub.url, examples=POOL[:1], pool=POOL, most=2)
        found = []
        for shown in (POOL[:1], [POOL[3], POOL[1]], [POOL[1], POOL[3]], []):
            generate.variable.assign({"instructions": "Name it.", "examples": shown})
            found.append(tw.wait(generate(question("no 5"))).json()["label"])
        generate.variable.update({"examples": [POOL[3]]})
        found.append(tw.wait(generate(question("no 5"))).json()["label"])
    assert found == ["unknown", "grey", "grey", "unknown", "grey"]
    assert [sent(body)[1:-1] for body in stub.requests] == [
        turns(POOL[0]),
        turns(POOL[3], POOL[1]),
        turns(POOL[1], POOL[3]),
        [],
        turns(POOL[3]),
    ]


def test_examples_of_several_fields_answered_in_json():
    one = {"inputs": {"text": "ka", "size": 2}, "outputs": {"label": "red", "sure": True}}
    with Stub(lambda body: '{"label": "blue", "sure": false}') as stub:
        generate = make(
            stub.url,
            inputs={"text": TEXT, "size": {"type": "integer"}},
            outputs={"label": TEXT, "sure": {"type": "boolean"}},
            answer="json",
            examples=[one],
            most=1,
        )
        schema = {"type": "object", "properties": {"text": TEXT, "size": {"type": "integer"}}}
        answer = tw.wait(generate(StructuredVariable({"text": "mi", "size": 3}, schema)))
    assert answer.json() == {"label": "blue", "sure": False}
    assert sent(stub.requests[0])[1:] == [
        ("user", "text: ka\nsize: 2"),
        ("assistant", '{"label":"red","sure":true}'),
        ("user", "text: mi\nsize: 3"),
    ]


# -- what it may become --------------------------------------------------------------------


def test_the_variable_offers_the_pool_and_so_many_of_it():
    variable = make("http://127.0.0.1:9/v1", examples=POOL[1:2], pool=POOL, most=3).variable
    shown = variable.schema()["properties"]["examples"]
    assert shown["items"] == {"enum": POOL}
    assert (shown["maxItems"], shown["uniqueItems"], shown.get("minItems", 0)) == (3, True, 0)
    assert variable.trainable
    assert variable.name == "name_it"
    space = Space.of_variables([variable])
    for picked in ([], [5], [2, 0, 4]):
        space.check({"name_it": {"instructions": "Else.", "examples": [POOL[k] for k in picked]}})
        variable.assign({"instructions": "Else.", "examples": [POOL[k] for k in picked]})
    for wrong in ([example("ka", 1)], POOL[:4], [POOL[0], POOL[0]]):
        with pytest.raises(ValueMismatchError):
            space.check({"name_it": {"instructions": "Else.", "examples": wrong}})
        with pytest.raises(ValueMismatchError):
            variable.assign({"instructions": "Else.", "examples": wrong})


def test_a_search_draws_every_example_and_every_number_of_them():
    variable = make("http://127.0.0.1:9/v1", pool=POOL, most=3).variable
    engine = FewShot(Space.of_variables([variable]), seed=0, start={"name_it": variable.json()}, method="random")
    (shelf,) = engine.shelves
    assert list(shelf.examples) == POOL
    assert (shelf.shortest, shelf.longest) == (0, 3)
    drawn = [candidate.values["name_it"]["examples"] for candidate in tw.wait(engine.ask(60))]
    assert {len(one) for one in drawn} == {0, 1, 2, 3}
    assert all(any(one in examples for examples in drawn) for one in POOL)


def test_without_a_pool_any_example_that_fits_is_allowed():
    variable = make("http://127.0.0.1:9/v1", examples=POOL[:1], most=2).variable
    variable.update({"examples": [example("ka", 9), {"inputs": {"text": "new"}, "outputs": {"label": "new"}}]})
    for wrong in ([{"inputs": {"text": 3}, "outputs": {"label": "x"}}], [{"inputs": {"text": "x"}}], POOL[:3]):
        with pytest.raises(ValueMismatchError):
            variable.update({"examples": wrong})


def test_as_many_may_be_shown_as_are_shown_at_the_beginning():
    """Also with a smaller ``most``, or none."""
    variable = make("http://127.0.0.1:9/v1", examples=POOL[:3], most=1).variable
    assert variable.schema()["properties"]["examples"]["maxItems"] == 3


def test_an_example_that_does_not_fit_is_refused_at_once():
    for wrong in (
        {"examples": [{"inputs": {"text": 1}, "outputs": {"label": "x"}}], "most": 1},
        {"examples": [example("ka", 1)], "pool": POOL, "most": 1},
    ):
        with pytest.raises(ValueMismatchError):
            make("http://127.0.0.1:9/v1", **wrong)


# -- what a search makes of it -------------------------------------------------------------

QUESTIONS = [f"{kind} {number}" for kind in ("mi", "pa") for number in (3, 4)]


async def score(generate):
    """The share of questions that are answered rightly, by the model, with the present examples."""
    answers = [(await generate(question(text))).json()["label"] for text in QUESTIONS]
    return sum(COLORS[text.split()[0]] == label for text, label in zip(QUESTIONS, answers, strict=True)) / len(
        QUESTIONS
    )


def test_a_few_shot_search_finds_the_best_examples():
    """Two of six help, and two can be shown: one choice of fifteen."""

    async def search(generate):
        few = Search("few_shot", seed=1)
        rewards = []
        for _ in range(30):
            rewards.append(await score(generate))
            await few.apply_optimization([generate.variable], reward=rewards[-1])
        await few.finalize_variable_values([generate.variable])
        return rewards, await score(generate)

    with Stub(knows) as stub:
        generate = make(stub.url, pool=POOL, most=2)
        rewards, final = tw.wait(search(generate))
    assert rewards[0] == 0.0, "without examples"
    assert set(rewards) == {0.0, 0.5, 1.0}
    assert final == 1.0
    chosen = generate.variable.json()
    assert chosen["instructions"] == "Name it."
    assert sorted(one["outputs"]["label"] for one in chosen["examples"]) == ["blue", "pink"]


def test_the_engine_finds_the_one_example_that_helps():
    with Stub(knows) as stub:
        generate = make(stub.url, examples=POOL[:1], pool=POOL, most=1)
        start = {"name_it": generate.variable.json()}
        engine = FewShot(Space.of_variables([generate.variable]), seed=0, start=start, full=1.0)
        rewards = {}
        while candidates := tw.wait(engine.ask()):
            (candidate,) = candidates
            generate.variable.assign(candidate.values["name_it"])
            answer = tw.wait(generate(question("ro 8"))).json()
            rewards[candidate.number] = float(answer == {"label": "black"})
            engine.tell([Told(candidate.number, rewards[candidate.number])])
            if answer == {"label": "black"}:
                break
    assert rewards[0] == 0.0
    assert generate.variable.json()["examples"] == [POOL[5]]
    assert len(rewards) <= 8, "six examples, and none"
