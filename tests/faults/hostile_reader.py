"""A process that reads what may be hostile: one child for each line of JSON, watched by an audit hook and limits.

``{"how": "checkpoint", "path": "..."}`` → ``{"refused": "CheckpointCorruptError", "ours": true, "text": ...,
"cpu": seconds, "grown": bytes, "events": [...]}``. The parent has imported and used everything before, so that a
child that imports anything does so because of the file.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

import thalweg.problems.waves
from tests.faults import victim
from tests.faults.wave_study import WAVES
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import ThalwegError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.exporting import export
from thalweg.runs.history import HistoryWriter
from thalweg.runs.record import RunRecord

KINDS = {**victim.kinds(), "waves": thalweg.problems.waves.WaveProblem}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
READING = {
    "pathlib.Path.glob",
    "os.readlink",
    "fcntl.flock",
    "builtins.id",
    "os.listdir",
    "os.scandir",
    "sqlite3.connect",
    "sqlite3.connect/handle",
    "object.__getattr__",
    "glob.glob",
}
COPYING = {"tempfile.mkdtemp", "tempfile.mkstemp", "shutil.copyfile", "shutil.rmtree", "os.mkdir", "os.rmdir"}
COPYING |= {"os.remove", "os.rename", "os.chmod", "os.truncate", "fcntl.flock", "os.putenv"}
WRITING = ("writer", "export")
"""What is to write; where it does, the tests look at."""
# NumPy reads the header of an .npy with ast.literal_eval, which parses it and runs nothing.
PARSING = {"data": {"compile"}}


def read_history(path):
    history = History(path)
    found = [history.moment(last=2), history.iterations(), history.batches(), history.events(), history.facts()]
    assert found
    return []


def read_run(path):
    record = RunRecord.read(path)
    assert record.document is not None
    assert record.block_iterations is not None
    return record.faults


HOW = {
    "checkpoint": lambda path: CheckpointStore(path).load() and [],
    "meta": lambda path: CheckpointStore(path).meta() and [],
    "study": lambda path: Study.load(path, kinds=KINDS) and [],
    "data": lambda path: Study.load(path, kinds=KINDS).build_problem() and [],
    "history": read_history,
    "writer": lambda path: HistoryWriter(Path(path)).close(),
    "run": lambda path: read_run(Path(path)),
    "resume": lambda path: Run.resume(Path(path), kinds=KINDS) and [],
    "export": lambda path: export(Path(path), Path(path).with_suffix(".npz")) and [],
    # To see that the watch sees.
    "spin": lambda path: sum(range(20_000_000)) and [],
    "eat": lambda path: np.ones(100 << 17) is None or [],
    "eval": lambda path: eval("[]"),
    "import": lambda path: __import__("wave") and [],
    "touch": lambda path: Path(path, "touched").touch(),
}


def watch(how, events):
    """Note everything that reading needs not; writing into folders of our own under the temporary one is fine."""
    own = os.path.join(tempfile.gettempdir(), "thalweg-")

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            harmless = not flags & WRITES or (isinstance(path, str) and path.startswith(own)) or how in WRITING
        else:
            harmless = event in READING or event in PARSING.get(how, ())
            harmless = harmless or (event in COPYING and (how in WRITING or own in place_of(arguments)))
        if not harmless:
            events.append(f"{event} {arguments!r:.100}")

    sys.addaudithook(hook)


def place_of(arguments):
    """What an event is about, and the folder where shutil.rmtree is."""
    folder = arguments[-1] if isinstance(arguments[-1], int) and arguments[-1] > 2 else None
    return str(arguments) + (os.readlink(f"/proc/self/fd/{folder}") if folder is not None else "")


def read(how, path):
    events = []
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    signal.alarm(100)
    watch(how, events)
    before = resource.getrusage(resource.RUSAGE_SELF)
    answer = {"refused": None, "ours": None, "text": "", "faults": []}
    try:
        answer["faults"] = HOW[how](path) or []
    except ThalwegError as error:
        answer |= {"refused": type(error).__name__, "ours": True, "text": str(error)[:500]}
    except BaseException as error:
        answer |= {"refused": type(error).__name__, "ours": False, "text": repr(error)[:500]}
    after = resource.getrusage(resource.RUSAGE_SELF)
    answer["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer["grown"] = (after.ru_maxrss - before.ru_maxrss) * 1024
    answer["events"] = list(events)
    return answer


def address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def warm_up():
    """Use everything once, on files that are fine and on files that are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        document = victim.document(2)
        study = Study.from_document(document, kinds=KINDS, overrides=["output.figures=false"])
        wait(Run(study, out=folder / "run").execute())
        (folder / "bad.toml").write_text("[problem]\nkind = 'wavse'\n[optimizer]\nkind = 1\n[[blocks]]\nx = 1\n")
        np.savez(folder / "bad.npz", x=np.zeros(3))
        (folder / "bad.sqlite").write_bytes(b"x" * 5000)
        (folder / "waves.toml").write_text(WAVES.format(path="bad.npz"))
        places = {
            "checkpoint": "run/checkpoints",
            "meta": "run/checkpoints",
            "writer": "bad.sqlite",
            "data": "waves.toml",
        }
        for how in ("checkpoint", "meta", "study", "data", "history", "writer", "run", "resume", "export"):
            for path in (folder / places.get(how, "run"), folder / "bad.toml", folder / "bad.sqlite", folder):
                try:
                    HOW[how](str(path))
                except ThalwegError:
                    continue


def main():
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            with os.fdopen(theirs, "w") as pipe:
                json.dump(read(job["how"], job["path"]), pipe)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        print(said or json.dumps({"ended": status}), flush=True)


if __name__ == "__main__":
    main()
