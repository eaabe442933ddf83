"""The process that serves a model: started by :mod:`thalweg.problems.programs.serving`, ends with its standard input.

It is run as a file, and imports llama.cpp and nothing of Thalweg.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module


def main(options: dict[str, object]) -> None:
    """Serve until standard input ends.

    Args:
        options: ``path`` of the weights, ``threads``, ``slots``, ``context`` (tokens of each slot).
    """
    out = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints goes to the log, and not in between
    llama = import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(options["path"])
    params.n_parallel = int(str(options["slots"]))
    params.n_ctx = int(str(options["context"])) * params.n_parallel
    params.cpuparams.n_threads = int(str(options["threads"]))
    params.cpuparams_batch.n_threads = int(str(options["threads"]))
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.warmup = False
    params.cache_ram_mib = 1024  # of prompts that a slot had before
    params.ui = False
    server = llama.Server(params)
    os.write(out, f"{server.listening_address}\n".encode())
    sys.stdin.buffer.read()
    os._exit(0)  # its threads would go on


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
