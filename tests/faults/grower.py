"""A process that makes many iterations and says what it holds: ``grower.py FOLDER ITERATIONS FIRST``.

It prints one line of JSON after iteration FIRST and one after the last but one: resident memory of its own when
everything that is free was given back (pages of libraries' files come and go as the kernel likes), live blocks of
Python's allocator, open files, threads.
"""

import ctypes
import gc
import json
import os
import sys
import threading
from pathlib import Path

from tests.faults import victim
from thalweg.graph import wait
from thalweg.runs import QuietDisplay, Run, Study


def held():
    for thread in threading.enumerate():
        if thread.name == "thalweg-checkpoint":  # it has a file and a thread of its own as long as it writes
            thread.join()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["RssAnon"].split()[0]) * 1024,
        "blocks": sys.getallocatedblocks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
    }


def fill_the_table_of_strings():
    """Have Python's table of interned strings as large as it gets: a name of a file takes a place in it for good, and
    some time after the start, when there is none left, it doubles, once: by 1 MiB."""
    for number in range(1 << 17):
        sys.intern(f"{number}, of which nobody hears again")


class Measuring(QuietDisplay):
    def __init__(self, at):
        self.at = at

    def iteration(self, record):
        if record.iteration == min(self.at):
            fill_the_table_of_strings()
        if record.iteration in self.at:
            print(json.dumps({"iteration": record.iteration, **held()}), flush=True)


if __name__ == "__main__":
    folder, iterations, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    document = victim.document(iterations)
    document["output"] |= {"checkpoint_every": 20, "keep_best": True, "checkpoint_shots": False}
    study = Study.from_document(document, kinds=victim.kinds())
    # In the middle of a checkpoint's write there is more than between two: the same place for both.
    outcome = wait(Run(study, out=folder, display=Measuring((first, iterations - 5))).execute())
    print(json.dumps({"status": outcome.status, "rows": len(outcome.history.iterations()["loss"])}))
