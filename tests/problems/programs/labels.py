"""A labelled task and a model that can only do what it is shown: for the tests of the kind ``program``."""

import json

CLASSES = {"ka": "red", "lu": "green", "mi": "blue", "no": "grey"}


def rows(number=80):
    keys = list(CLASSES)
    return [{"q": f"{keys[i % 4]} {i}", "a": CLASSES[keys[i % 4]]} for i in range(number)]


def answer(body):
    """The answer of the last example of the same kind, or a guess."""
    *shown, last = body["messages"]
    kind = last["content"].split()[0]
    known = "red"
    for asked, answered in zip(shown[1::2], shown[2::2], strict=True):
        if asked["content"].split()[0] == kind:
            known = answered["content"]
    return known


def document(folder, url, **problem):
    """A study; the data is written into the folder."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return {
        "title": "colors",
        "seed": 1,
        "problem": {
            "kind": "program",
            "data": "rows.jsonl",
            "fields": {"question": "q", "answer": "a"},
            "expected": {"color": "answer"},
            "train": 20,
            "held_out": 20,
            "test": 40,
            "steps": [
                {
                    "name": "name_it",
                    "instructions": "Which color is it?",
                    "inputs": {"question": {"type": "string"}},
                    "outputs": {"color": {"type": "string"}},
                    "examples": 4,
                }
            ],
            "lm": {"base_url": url, "model": "stub", "max_tokens": 4, "retries": 1},
            **problem,
        },
        "optimizer": {"kind": "few_shot", "candidates": 3, "finalists": 2},
        "blocks": [{"iterations": 5}],
        "output": {"checkpoint_every": 1, "figures": False},
    }
