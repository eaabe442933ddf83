"""Anything at all in the place of what we read: it is taken, and means what it says, or an error of ours comes."""

import copy
import datetime
import json
import math
import os
import shutil
import sqlite3
import tomllib
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.faults import hostile_histories, victim
from tests.faults.bits import bits
from tests.faults.hostile_checkpoints import signed, state_of
from tests.sampling import ALL
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError, RunError, StudyError, ThalwegError
from thalweg.runs import History, Run, Selection, Study
from thalweg.runs.overrides import apply_overrides
from thalweg.runs.position import Position
from thalweg.runs.toml import dumps, parse
from thalweg.runs.tuning import build_optimizer

KINDS = victim.kinds()
ARRAYS = {"variable/x": np.arange(3.0), "n": np.array([7], "i2"), "flags": np.array([True, False]), "none": np.zeros(0)}
META = {"iteration": 3, "selection": {"kind": "all"}}


def fuzzed(everything, some):
    """The same examples each time; ``make faults`` has more of them."""
    return settings(
        max_examples=everything if ALL else some,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


numbers = st.one_of(
    st.integers(-5, 70),
    st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 2**127, 2**128, 10**30, 10**400]),
    st.floats(),
    st.booleans(),
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["float64", "F64", "object", "1.0", "adam", "exp", "all", "random", "PCG64", "MT19937", "\ud800", "x" * 999]
    ),
)
leaves = st.one_of(st.none(), numbers, texts)
values = st.recursive(
    leaves,
    lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(texts, inside, max_size=4)),
    max_leaves=8,
)
dates = st.sampled_from([datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1, 2)])


def asked(work, error):
    """What comes out, or the error of ours that came instead."""
    try:
        return work(), None
    except error as refused:
        return None, refused


def places(node, path=()):
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from places(value, (*path, key))


@st.composite
def edited(draw, document, values=values):
    """A document with one to three of its values replaced, removed or added."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(document))))
        if not path:
            document = {**document, draw(texts): draw(values)}
            continue
        where = document
        for key in path[:-1]:
            where = where[key]
        if draw(st.booleans()) and draw(st.booleans()):
            del where[path[-1]]
        else:
            where[path[-1]] = draw(values)
        if not isinstance(document, dict) or not document:
            break
    return document


@st.composite
def spliced(draw, content):
    """Bytes with a few places replaced, cut out, or filled in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 9))
        content[start:end] = draw(
            st.one_of(st.binary(max_size=9), st.sampled_from([b"[[", b"{", b'"', b"-1", b"1e999"]))
        )
    return bytes(content)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A checkpoint, and its two files."""
    folder = tmp_path_factory.mktemp("good") / "store"
    CheckpointStore(folder).save(ARRAYS, META)
    names = ("manifest.json", "state.safetensors")
    return folder, {name: (folder / "000001" / name).read_bytes() for name in names}


def loaded(folder, files):
    """What loads, or None if it is refused as it should be."""
    for name, content in files.items():
        (folder / "000001" / name).write_bytes(content)
    found, refused = asked(CheckpointStore(folder).load, CheckpointError)
    if refused is not None:
        assert str(folder) in str(refused)
        return None
    arrays, meta, number = found
    assert number == 1
    return arrays, meta


@fuzzed(3_000, 300)
@given(data=st.data())
def test_manifests_that_are_signed(good, data):
    folder, files = good
    manifest = data.draw(edited(json.loads(files["manifest.json"])))
    try:
        content = signed(manifest)
    except ValueError:
        content = json.dumps(manifest).encode()
    found = loaded(folder, {**files, "manifest.json": content})
    if found is not None:
        arrays, meta = found
        assert bits(arrays) == bits(ARRAYS), "the state is the same, and was taken for something else"
        assert meta == manifest["meta"]


@fuzzed(3_000, 300)
@given(data=st.data())
def test_headers_of_a_state(good, data):
    folder, files = good
    state = files["state.safetensors"]
    length = 8 + int.from_bytes(state[:8], "little")
    header = data.draw(edited(json.loads(state[8:length])))
    told = data.draw(st.sampled_from([None, None, 0, length + 1, 2**63]))
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(header).encode()
    content = state_of(text, state[length:], told)
    manifest = {**json.loads(files["manifest.json"]), "bytes": len(content)}
    if data.draw(st.booleans()) and isinstance(header, dict):
        for name, entry in header.items():
            if name in manifest["arrays"] and isinstance(entry, dict):
                manifest["arrays"][name] |= {k: v for k, v in entry.items() if k in ("shape",)}
    try:
        signature = signed(manifest)
    except ValueError:  # what JSON cannot say
        return
    found = loaded(folder, {"manifest.json": signature, "state.safetensors": content})
    if found is not None:
        assert bits(found[0]) == bits(ARRAYS)


@fuzzed(3_000, 300)
@given(data=st.data())
def test_bytes_of_a_checkpoint(good, data):
    folder, files = good
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(spliced(files[name]))
    found = loaded(folder, {**files, name: content})
    assert (found is not None) == (content == files[name])


@fuzzed(3_000, 200)
@given(meta=st.one_of(st.dictionaries(texts, values), edited(Position(3, 0, 3, {"count": 3}, 0.5).meta())))
def test_positions(meta):
    try:
        position = Position.from_meta(meta)
    except RunError:
        return
    assert {key: value for key, value in position.meta().items() if key != "history"} == {
        name: meta.get(name) for name in ("iteration", "block", "block_iteration", "selection", "misfit")
    } or meta["misfit"] != meta["misfit"]
    assert min(position.iteration, position.block, position.block_iteration) >= 0


SELECTION = Selection("random", items=7, batch_size=3, seed=1)
for _ in range(4):
    SELECTION.next()


@fuzzed(3_000, 400)
@given(state=st.one_of(st.dictionaries(texts, values), edited(SELECTION.state())))
@example(state={**SELECTION.state(), "generator": {**SELECTION.state()["generator"], "has_uint32": 2**31}})
def test_selections(state):
    selection = Selection("random", items=7, batch_size=3, seed=2)
    before = selection.state()
    try:
        selection.restore(state)
    except RunError:
        assert selection.state() == before, "it was refused, and something has changed"
        return
    assert selection.state()["count"] == state["count"]
    taken = [selection.next().items for _ in range(6)]
    assert all(np.all((batch >= 0) & (batch < 7)) for batch in taken)


STUDY = {
    **victim.document(4),
    "output": {"folder": "runs", "figures": True, "checkpoint_every": 5, "keep": 2},
    "runtime": {"kind": "local", "threads": 1},
}
STUDY["optimizer"] |= {"process_grad": [{"kind": "clip_norm", "limit": 1.0}], "process_model": []}


@fuzzed(3_000, 300)
@given(document=edited(STUDY, st.one_of(values, dates)))
def test_documents_of_studies(document):
    study, refused = asked(lambda: Study.from_document(document, kinds=KINDS, overrides=["title=x"]), StudyError)
    if refused is not None:
        assert refused.details
        return
    again = tomllib.loads(study.text)
    assert again == study.document or "nan" in study.text
    assert study.iterations == sum(block["iterations"] for block in document["blocks"])


@fuzzed(3_000, 300)
@given(content=spliced(dumps(STUDY).encode()))
def test_bytes_of_a_study(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    try:
        study = Study.load(path, kinds=KINDS)
    except StudyError:
        return
    assert study.document == tomllib.loads(content.decode()) or "nan" in study.text


@fuzzed(3_000, 300)
@given(text=st.one_of(st.text(), st.text('[]{}=.,"#\n a1-_:T\\u'), st.binary().map(lambda b: b.decode("latin-1"))))
def test_texts_that_are_hardly_studies(text):
    try:
        found = parse(text)
    except (ValueError, RecursionError):
        return
    assert found == tomllib.loads(text) or found != found or "nan" in text


@fuzzed(3_000, 200)
@given(
    override=st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}={}".format,
            st.sampled_from(["seed", "blocks.0.iterations", "optimizer.kind", "a.b.c", "blocks.9.x", "title.x"]),
            st.text(max_size=12),
        ),
    )
)
def test_overrides(override):
    document = copy.deepcopy(STUDY)
    changed, faults = apply_overrides(document, [override])
    assert document == STUDY
    assert faults or changed != document or "=" in override
    try:
        Study.from_document(document, kinds=KINDS, overrides=[override])
    except StudyError:
        return


# A database holds any kind of value in any column.
cells = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=8).filter(lambda t: "\ud800" not in t),
    st.binary(max_size=8), values.map(lambda value: json.dumps(value)),
)  # fmt: skip
CELLS = [
    *(
        ("iterations", name)
        for name in ("iteration", "block", "epoch", "items", "loss", "misfit", "metrics", "batch", "seconds")
    ),
    *(("events", name) for name in ("time", "kind", "iteration", "text", "details")),
    *(("facts", name) for name in ("name", "value")),
]


@fuzzed(3_000, 100)
@given(data=st.data())
def test_rows_of_a_history(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    good, path = folder / "good.sqlite", folder / "fuzzed.sqlite"
    if not good.exists():
        hostile_histories.good(good)
    shutil.copyfile(good, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        for _ in range(data.draw(st.integers(1, 3))):
            table, column = data.draw(st.sampled_from(CELLS))
            try:
                database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 1", (data.draw(cells),))
            except (sqlite3.Error, UnicodeEncodeError):  # the database itself has refused it
                continue
    history = History(path)
    for ask in (history.iterations, history.batches, history.events, history.facts, history.moment):
        found, refused = asked(ask, RunError)
        assert refused is None or str(path) in str(refused)
        if ask == history.iterations and refused is None:
            assert {len(column) for column in found.values()} == {30}
            assert all(np.isfinite(found[name]).all() for name in ("loss", "misfit", "seconds"))


@fuzzed(1_000, 60)
@given(content=st.data())
def test_bytes_of_a_history(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    good, path = folder / "good.sqlite", folder / "fuzzed-bytes.sqlite"
    if not good.exists():
        hostile_histories.good(good)
    path.write_bytes(content.draw(spliced(good.read_bytes())))
    history = History(path)
    for ask in (history.iterations, history.batches, history.events, history.facts, history.moment):
        _, refused = asked(ask, RunError)
        assert refused is None or str(path) in str(refused)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    hostile_histories.good_run(folder)
    return folder


@fuzzed(1_000, 60)
@given(data=st.data())
def test_what_a_run_goes_on_from(run, data):
    """The checkpoint's meta, the history's facts and the summary, up to the optimizer that is restored."""
    arrays, meta, number = CheckpointStore(run / "checkpoints").load()
    manifest = run / "checkpoints" / f"{number:06d}" / "manifest.json"
    kept = {
        path: path.read_bytes() for path in (manifest, run / "run.sqlite", run / "summary.json", run / "study.toml")
    }
    try:
        what = data.draw(st.sampled_from(["meta", "meta", "facts", "summary", "study"]))
        if what == "meta":
            found = json.loads(kept[manifest])
            try:
                manifest.write_bytes(signed({**found, "meta": data.draw(edited(found["meta"]))}))
            except ValueError:  # what JSON cannot say
                return
        elif what == "facts":
            name = data.draw(st.sampled_from(["study", "study_name", "study_folder", "items_by_worker", "versions"]))
            hostile_histories.fact(name, data.draw(values))(run)
        elif what == "summary":
            (run / "summary.json").write_bytes(data.draw(spliced(kept[run / "summary.json"])))
        else:
            (run / "study.toml").write_bytes(data.draw(spliced(kept[run / "study.toml"])))
        try:
            session = Run.resume(run, kinds=KINDS)
            problem = session.study.build_problem()
            optimizer = build_optimizer(session.study.settings.optimizer, problem)
            session._resumption.restore(problem, optimizer)
        except ThalwegError:
            return
        assert problem.x.data.tobytes() == arrays["variable/x"].tobytes()
        assert math.isfinite(session._resumption.seconds)
        assert meta is not None
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
        for left in run.glob("run.sqlite-*"):
            os.unlink(left)
