"""Histories and run folders of somebody else's making."""

import json
import os
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path

from tests.faults import victim
from thalweg.checkpoints import CheckpointStore
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord


def good(path):
    with HistoryWriter(path) as writer:
        writer.fact("seed", 1)
        writer.event("started", "a text")
        for k in range(1, 31):
            writer.iteration(IterationRecord(k, 0, 1, 2, 1.0 / k, (0, 1), 0.1 * k, {"error": 0.5}))


def sql(*statements):
    """The good one after some statements."""

    def make(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                database.execute(statement)

    return make


def replaced(name, text):
    return sql(f"DROP TABLE {name}", text)


def content(data):
    return lambda path: path.write_bytes(data)


def damaged(change):
    def make(path):
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return make


def row(**values):
    """One more iteration, with some columns as they should not be."""
    columns = {
        "iteration": "31", "block": "0", "epoch": "1", "items": "2", "loss": "1.0", "misfit": "0.5",
        "metrics": "'{}'", "batch": "'[0]'", "seconds": "9.0",
    }  # fmt: skip
    names, texts = zip(*(columns | values).items(), strict=True)
    return sql(f"INSERT INTO iterations ({', '.join(names)}) VALUES ({', '.join(texts)})")


def endless_tree(path):
    """Ten pages, each of which has the next one as every one of its fifty children."""
    path.unlink()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 512")
        for text in _tables(path):
            database.execute(text)
        database.execute("BEGIN")
        for k in range(5000):
            values = (k + 1, 0, 1, 1, 1.0, 1.0, '{"error": 0.5, "another": 0.25, "third": 1.0}', "[0]", 1.0)
            database.execute("INSERT INTO iterations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        database.execute("COMMIT")
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'iterations'").fetchone()
    data = bytearray(path.read_bytes())
    pages = [number for number in range(2, len(data) // 512 + 1) if data[(number - 1) * 512] == 5]
    pages = [root, *(page for page in pages if page != root)]
    assert len(pages) >= 8
    leaf = struct.unpack_from(">I", data, (pages[-1] - 1) * 512 + 8)[0]
    for page, child in zip(pages, [*pages[1:], leaf], strict=True):
        start = (page - 1) * 512
        cells = struct.unpack_from(">H", data, start + 3)[0]
        struct.pack_into(">I", data, start + 8, child)
        for place in struct.unpack_from(f">{cells}H", data, start + 12):
            struct.pack_into(">I", data, start + place, child)
    path.write_bytes(data)


def repeated_leaf(path):
    """Every leaf is the first one: as many rows as there is room for, again and again the same."""
    many_rows(500)(path)
    data = bytearray(path.read_bytes())
    size = struct.unpack_from(">H", data, 16)[0]
    (page,) = [number for number in range(2, len(data) // size + 1) if data[(number - 1) * size] == 5]
    start = (page - 1) * size
    cells = struct.unpack_from(">H", data, start + 3)[0]
    places = struct.unpack_from(f">{cells}H", data, start + 12)
    first = data[start + places[0] : start + places[0] + 4]
    for place in (*places, 8):
        data[start + place : start + place + 4] = first
    path.write_bytes(data)


def many_rows(count, metrics="'{}'"):
    return sql(
        f"WITH RECURSIVE n(k) AS (SELECT 31 UNION ALL SELECT k + 1 FROM n WHERE k < {30 + count}) "
        f"INSERT INTO iterations SELECT k, 0, 1, 2, 1.0, 0.5, {metrics}, '[0]', 1.0 FROM n"
    )


def _tables(path):
    with tempfile.TemporaryDirectory() as folder:
        good(Path(folder) / "x.sqlite")
        with closing(sqlite3.connect(Path(folder) / "x.sqlite")) as database:
            return [text for (text,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]


def super_journal(path):
    """A journal whose end names another file, which SQLite would remove after rolling back."""
    victim_file = path.parent / "precious"
    victim_file.write_text("x")
    name = os.fsencode(victim_file)
    magic = bytes.fromhex("d9d505f920a163d7")
    end = struct.pack(">I", 0xFFFFFFFF) + name + struct.pack(">II", len(name), sum(name)) + magic
    path.with_name(f"{path.name}-journal").write_bytes(
        magic + struct.pack(">5I", 0, 1, 5, 512, 4096) + b"\0" * 484 + end
    )


def linked(path):
    os.rename(path, path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def instead(make):
    def do(path):
        path.unlink()
        make(path)

    return do


ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n)"

FOREIGN_CASES = {
    "a view without end": replaced(
        "iterations",
        f"CREATE VIEW iterations AS {ENDLESS} SELECT k AS iteration, 0 AS block, 1 AS epoch, 1 AS items, 1.0 AS loss, "
        "1.0 AS misfit, '{}' AS metrics, '[0]' AS batch, 1.0 AS seconds FROM n",
    ),
    "a view that takes all memory": replaced(
        "facts", "CREATE VIEW facts AS SELECT 'a' AS name, hex(zeroblob(400000000)) AS value"
    ),
    "a trigger": sql("CREATE TRIGGER t AFTER INSERT ON iterations BEGIN DELETE FROM events; END"),
    "a trigger without end": sql(
        f"CREATE TRIGGER t AFTER DELETE ON iterations BEGIN INSERT INTO facts {ENDLESS} SELECT k, k FROM n; END"
    ),
    "a generated column": replaced(
        "events",
        "CREATE TABLE events (id INTEGER PRIMARY KEY, time REAL, kind TEXT, iteration INTEGER, text TEXT AS "
        "(hex(zeroblob(100000000))), details TEXT)",
    ),
    "a table too few": sql("DROP TABLE facts"),
    "a table too many": sql("CREATE TABLE more (x)"),
    "an index": sql("CREATE INDEX i ON iterations (hex(loss))"),
    "another table of that name": replaced("facts", "CREATE TABLE facts (name, value)"),
    "a check that computes": replaced(
        "facts", "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT CHECK (length(zeroblob(1000000000)) > 1))"
    ),
    "a schema that is code": sql("UPDATE sqlite_master SET sql = 'SELECT load_extension(''x'')' WHERE name = 'events'"),
    "another program's database": instead(lambda path: sql("CREATE TABLE users (name, password)")(path)),
}

ROWS = {
    "a loss that is a text": row(loss="'x'"),
    "a loss that is null": sql("PRAGMA ignore_check_constraints = ON", "UPDATE iterations SET loss = 1e999"),
    "items that are half": row(items="1.5"),
    "a block of bytes": row(block="x'00'"),
    "metrics that are no JSON": row(metrics="'{'"),
    "metrics that are a list": row(metrics="'[1]'"),
    "metrics that are bytes": row(metrics="x'7b7d'"),
    "metrics with NaN": row(metrics="""'{"a": NaN}'"""),
    "metrics with 1e999": row(metrics="""'{"a": 1e999}'"""),
    "metrics with 5,000 digits": row(metrics='\'{"a": ' + "7" * 5000 + "}'"),
    "metrics with 400 digits": row(metrics='\'{"a": ' + "7" * 400 + "}'"),
    "metrics that are deep": row(metrics="'" + "[" * 100_000 + "'"),
    "metrics with texts": row(metrics="""'{"a": "b"}'"""),
    "metrics that no two have": many_rows(4000, 'printf(\'{"%x": 1, "%x": 2}\', k, -k)'),
    "a batch that is a table": row(batch="'{}'"),
    "a batch of texts": row(batch="'[\"a\"]'"),
    "an event of bytes": sql("INSERT INTO events VALUES (9, 1.0, x'00', 1, 'a', '{}')"),
    "an event without details": sql("INSERT INTO events VALUES (9, 1.0, 'a', 1, 'a', '[]')"),
    "an event out of time": sql("INSERT INTO events VALUES (9, 1e999, 'a', 1, 'a', '{}')"),
    "a fact that is no JSON": sql("INSERT INTO facts VALUES ('a', 'x')"),
    "a fact that is deep": sql("INSERT INTO facts VALUES ('a', '" + "[" * 100_000 + "')"),
    "a fact with a name of bytes": sql("INSERT INTO facts VALUES (x'00', '1')"),
    "invalid UTF-8": sql("INSERT INTO facts VALUES ('a', CAST(x'22fffe22' AS TEXT))"),
}

CASES = {
    **FOREIGN_CASES,
    **ROWS,
    "not a database": content(b"this is no database" * 100),
    "a pickle": content(b"cos\nmkdir\n(S'thalweg-was-here'\ntR."),
    "an empty file": content(b""),
    "a header alone": damaged(lambda data: data.__delitem__(slice(100, None))),
    "half of it": damaged(lambda data: data.__delitem__(slice(len(data) // 2, None))),
    "zeros after the first page": damaged(lambda data: data.__setitem__(slice(4096, None), b"\0" * (len(data) - 4096))),
    "noise after the first page": damaged(
        lambda data: data.__setitem__(slice(4096, None), bytes(k * 37 % 251 for k in range(len(data) - 4096)))
    ),
    "pages of a strange size": damaged(lambda data: data.__setitem__(slice(16, 18), b"\3\3")),
    "a tree without end": endless_tree,
    "the same leaf again and again": repeated_leaf,
    "a pipe": instead(os.mkfifo),
    "a folder": instead(Path.mkdir),
    "a device": instead(lambda path: path.symlink_to("/dev/zero")),
    "a link": linked,
    "a journal that names another file": super_journal,
}
FOREIGN = set(FOREIGN_CASES)
FOR_WRITERS = {"a link", "a journal that names another file"}


def good_run(folder):
    """A run that was killed after its last checkpoint."""
    wait(Run(Study.from_document(victim.document(4), kinds=victim.kinds()), out=folder).execute())
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "running"}))


def file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def place(name, make):
    def do(folder):
        (folder / name).unlink()
        make(folder / name)

    return do


def fact(name, value):
    def do(folder):
        with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as database:
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    return do


def checkpoint(**meta):
    """A newer checkpoint whose arrays are fine and whose meta is not."""

    def do(folder):
        store = CheckpointStore(folder / "checkpoints")
        arrays, before, _ = store.load()
        store.save(arrays, {**before, **meta})

    return do


RUNS = {
    "a study that is a pipe": place("study.toml", os.mkfifo),
    "a study that is a device": place("study.toml", lambda path: path.symlink_to("/dev/zero")),
    "a study of 100 MB": file("study.toml", b"#" * 100_000_000),
    "a study of deep lists": file("study.toml", b"a = " + b"[" * 100_000),
    "a study with a long dotted key": file("study.toml", b"a" + b".a" * 100_000 + b" = 1"),
    "a study that is not text": file("study.toml", b"\xff\xfe"),
    "an empty study": file("study.toml", b""),
    "a study with another seed": lambda folder: (folder / "study.toml").write_text(
        (folder / "study.toml").read_text().replace("seed = 5", "seed = 6")
    ),
    "a study that the history has as a number": fact("study", 5),
    "a study that the history has as a list": fact("study", [[]]),
    "a study that the history has deep": fact("study", "a = " + "[" * 100_000),
    "a folder that is a number": fact("study_folder", 5),
    "a folder that is a table": fact("study_folder", {"a": 1}),
    "a lock that is a pipe": place("run.lock", os.mkfifo),
    "a lock that is a device": place("run.lock", lambda path: path.symlink_to("/dev/zero")),
    "no history": lambda folder: (folder / "run.sqlite").unlink(),
    "a history of less": lambda folder: sql("DELETE FROM iterations WHERE iteration = 2")(folder / "run.sqlite"),
    "a summary that is a pipe": place("summary.json", os.mkfifo),
    "a summary that is deep": file("summary.json", b"[" * 1_000_000),
    "a summary of 100 MB": file("summary.json", b" " * 100_000_000),
    "a summary that is a list": file("summary.json", b'[{"status": "finished"}]'),
    "a status that is a table": file("summary.json", b'{"status": {}, "seconds": "x", "title": []}'),
    "an iteration that is a text": checkpoint(iteration="4"),
    "an iteration before the beginning": checkpoint(iteration=-1),
    "an iteration of 30 digits": checkpoint(iteration=10**30),
    "a block beyond the last": checkpoint(block=7),
    "iterations that do not add up": checkpoint(block_iteration=1),
    "a misfit that is a list": checkpoint(misfit=[]),
    "a selection that is a list": checkpoint(selection=[]),
}
NOT_FOR_RESUME = {name for name in RUNS if name.startswith(("a summary", "a status", "a lock"))}
