"""A process that is to be killed: runs or goes on with a small study. ``victim.py FOLDER ITERATIONS run|resume``."""

import sys
from pathlib import Path

from tests.runs.deconvolution import Deconvolution
from thalweg.graph import wait
from thalweg.runs import Run, Study


def kinds():
    return {"deconvolution": Deconvolution}


def document(iterations):
    rate = {"kind": "exp", "initial": 0.05, "gamma": 0.97, "decay_on_iteration": True}
    return {
        "title": "A blurred signal",
        "seed": 5,
        "problem": {"kind": "deconvolution", "length": 32},
        "optimizer": {"kind": "adam", "learning_rate": rate},
        "blocks": [
            {"iterations": iterations // 2, "selection": "random", "batch_size": 2, "cutoff": 0.3},
            {"iterations": iterations - iterations // 2, "selection": "random", "batch_size": 4},
        ],
        "output": {"checkpoint_every": 1, "checkpoint_shots": True, "figures": False},
        "runtime": {"threads": 1},
    }


if __name__ == "__main__":
    folder, iterations, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "resume":
        run = Run.resume(folder, kinds=kinds())
    else:
        run = Run(Study.from_document(document(iterations), kinds=kinds()), out=folder)
    wait(run.execute())
