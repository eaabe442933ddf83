"""A contest: every contender in a process of its own, in turns."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Peer

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600.0  # s, for one answer
SETTLING = 0.02  # s, until the threads of the contender before have stopped waiting actively


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    quick: bool = False
    rounds: int = 5
    peers: bool = True
    seeds: tuple[int, ...] = ()  # of the prompt contest; its own if there are none
    only: tuple[str, ...] = ()  # parts of the search contest; all if there are none
    whole: bool = False
    say: Callable[[str], None] = lambda text: None


@dataclass
class Outcome:
    """What a contender answered."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} {self.facts.get('version', '')}".strip()

    @property
    def sittings(self) -> list[list[dict[str, Any]]]:
        """The rounds of each process of the contender, one after the other."""
        found: dict[int, list[dict[str, Any]]] = {}
        for one in self.rounds:
            found.setdefault(one.get("sitting", 0), []).append(one)
        return list(found.values())

    @property
    def samples(self) -> tuple[float, ...]:
        """What one process measured; where there were several, the median of each: what luck one had counts once."""
        several = [tuple(sample for one in rounds for sample in one["samples"]) for rounds in self.sittings]
        return several[0] if len(several) == 1 else tuple(median(samples) for samples in several)


def contest(
    contenders: dict[str, str],
    settings: dict[str, Any],
    options: Options,
    *,
    rounds: int | None = None,
    sittings: int = 1,
    environment: dict[str, str] | None = None,
    own: int = 1,
) -> dict[str, Outcome]:
    """Run contenders in turns and return what each answered, by name.

    Args:
        contenders: module of `benchmarks.contenders` by name, Thalweg's first.
        settings: what each is told before it warms up.
        options: from the command line.
        rounds: how often each takes its turn in a sitting; as the command line says by default.
        sittings: how often all of them are started anew. Where the pages of a process lie is settled once in its life,
            so what depends on that has to be measured in several.
        environment: variables that each contender is started with, the same for all.
        own: how many of the first are no peers, and run without them, too.
    """
    outcomes = {name: Outcome(name) for name in contenders}
    for name in list(contenders)[own:] if not options.peers else ():
        outcomes[name].problem = "left out (--no-peers)"
    for sitting in range(sittings):
        _sit(
            contenders, outcomes, settings, options, options.rounds if rounds is None else rounds, sitting, environment
        )
    return outcomes


def _sit(
    contenders: dict[str, str],
    outcomes: dict[str, Outcome],
    settings: dict[str, Any],
    options: Options,
    rounds: int,
    sitting: int,
    environment: dict[str, str] | None,
) -> None:
    """Start all contenders that have had no problem, let them take their turns, and end them."""
    running: dict[str, _Process] = {}
    try:
        for name, module in contenders.items():
            if not outcomes[name].problem:
                running[name] = _Process(module, settings, environment or {})
                running[name].tell(json.dumps(settings))  # nothing is timed yet: they warm up at the same time
        for name in list(running):
            options.say(f"{name}: warming up")
            answer = running[name].hear()
            if "ready" in answer:
                outcomes[name].facts = answer["ready"]
            else:
                outcomes[name].problem = _problem(answer)
                running.pop(name).close()
        for turn in range(rounds):
            names = list(running)
            first = (sitting + turn) % max(len(names), 1)  # nobody has the same one before it every time
            for name in names[first:] + names[:first]:
                options.say(f"{name}: round {turn + 1} of {rounds}")
                time.sleep(SETTLING)
                answer = running[name].ask("go")
                if "round" in answer:
                    outcomes[name].rounds.append({**answer["round"], "sitting": sitting, "turn": turn})
                else:
                    outcomes[name].problem = _problem(answer)
                    running.pop(name).close()
    finally:
        for process in running.values():
            process.end()
        for process in running.values():
            process.close()


def peers(
    outcomes: dict[str, Outcome],
    *,
    scale: Callable[[float], float],
    better: Callable[[float, float], float],
    notes: dict[str, str] | None = None,
) -> tuple[Peer, ...]:
    """Return the lines of all contenders but the first.

    Args:
        outcomes: from `contest`.
        scale: turns seconds into the figure's unit.
        better: how many times as good the first value (ours) is as the second.
        notes: remarks by name.
    """
    first, *others = outcomes.values()
    ours = [scale(sample) for sample in first.samples]
    lines = []
    for other in others:
        theirs = tuple(scale(sample) for sample in other.samples)
        comparison = ""
        if ours and theirs:
            comparison = f"ours {better(median(ours), median(theirs)):.2f} × as fast"
        lines.append(Peer(other.title, theirs, comparison, other.problem or (notes or {}).get(other.name, "")))
    return tuple(lines)


class _Process:
    """A contender's process; see `benchmarks.contenders.worker` for what is said."""

    def __init__(self, module: str, settings: dict[str, Any], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.contenders.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(settings.get("threads", 2))} | environment,
        )

    def ask(self, line: str) -> dict[str, Any]:
        """Send one line and return the answer, or what happened instead."""
        self.tell(line)
        return self.hear()

    def tell(self, line: str) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is what will be heard
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next answer, or what happened instead."""
        assert self._process.stdout is not None
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        try:
            answer = self._process.stdout.readline()
        finally:
            timer.cancel()
        return dict(json.loads(answer)) if answer else {"ended": self._ending()}

    def end(self) -> None:
        """Have the process end, by closing its input."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # it ended before it read the last line
                    continue

    def close(self) -> None:
        """Wait until it has ended."""
        self.end()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ending(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        return (f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}") + last


def _problem(answer: dict[str, Any]) -> str:
    if "missing" in answer:
        return "not installed (pip install -r benchmarks/requirements.txt)"
    return f"failed: {answer['failed']}" if "failed" in answer else str(answer["ended"])
