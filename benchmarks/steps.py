"""The figures of an optimizer's step: beside the speed of memory, beside the peers, and from a cold start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from benchmarks.contest import Options, Outcome, contest, peers
from benchmarks.figures import Figure, Target
from benchmarks.machine import as_installed

RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam", "adamax", "adadelta")
STREAMS = {"sgd": 3, "momentum": 5, "adagrad": 5, "rmsprop": 5, "adam": 7, "adamax": 7, "adadelta": 7}
PEERS = {
    "torch default": "steps_torch_default",
    "torch foreach": "steps_torch_foreach",
    "torch fused": "steps_torch_fused",
    "optax jit": "steps_optax",
}
OURS = {
    "thalweg": "steps_thalweg",
    "thalweg, unchecked": "steps_thalweg_unchecked",
    "stream": "steps_stream",
}
LARGE = {**OURS, **PEERS}
SMALL = {"thalweg": "steps_thalweg", **PEERS}
TURNS = 3
"""How often a process takes its turn, briefly, so that what the machine does besides meets all contenders alike."""

ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Large memory is asked for in huge pages, by every contender: NumPy asks for its arrays by itself, PyTorch and XLA do
not, and with what is left to luck a process is up to a fifth faster than the next."""

NOTES = (
    "A step of the optimizer itself on float32 arrays whose gradient buffers are reused: `await optimizer.step()` in a "
    "running event loop; torch.optim's step(); optax jitted with parameters and state donated. Two threads each. Rules "
    "with their libraries' defaults.",
    "Stream: the same arrays updated in place by one addition an element (3, 5 or 7 arrays read or written), and one "
    "read of the gradient more, which is what the look for NaN and infinity takes: the speed that memory allows in "
    "this run.",
    "Arrays of 2^24: where the pages of a process come to lie is settled once in its life, and decides on its speed. "
    f"So all contenders are started anew as often as --rounds says (5), and take {TURNS} short turns each time, "
    "another one first in each. A figure is the median over the processes of the median of each; a ratio is taken turn "
    "by turn, then the same. Each contender is asked to use huge pages; the share that it got stands beside it.",
    "Torch has no fused RMSProp, Adamax and Adadelta on the CPU: those lines say so.",
    "First step: a new process from its start to the end of the first step of a float32 Adam whose kernel is in the "
    "cache on disk, interpreter, NumPy and imports included, bytecode beside the modules; the first process of all, "
    "which compiles, beside it, and one that imports NumPy only.",
)
FIRST = (
    "import numpy as np, thalweg as tw;"
    "x = tw.Variable(np.ones(1000, 'f4'), name='x', needs_grad=True);"
    "tw.wait(tw.Adam(x).step(grad=np.ones(1000, 'f4')))"
)


def figures(options: Options) -> list[Figure]:
    """Measure everything; ``--quick`` takes smaller arrays and fewer rules."""
    found: list[Figure] = []
    size = 1 << 18 if options.quick else 1 << 24
    for rule in ("sgd", "adam") if options.quick else RULES:
        found += _large(rule, size, options)
    # What is compared with a time in µs is small already; --quick shortens the rounds.
    at_least = 0.01 if options.quick else 0.3
    many: dict[str, Any] = {"rule": "adam", "size": 1000, "count": 1000, "at_least": at_least}
    found += _small("adam, 1,000 arrays of 1,000, an array", many, options, 1e3, 2.0, 2.5)
    one: dict[str, Any] = {"rule": "adam", "size": 1000, "at_least": at_least}
    found += _small("adam, one array of 1,000, a call", one, options, 1e6, 3.0, None)
    found += _first_step(options)
    return found


def _large(rule: str, size: int, options: Options) -> list[Figure]:
    options.say(f"{rule}, {size} elements")
    settings = {"rule": rule, "size": size, "at_least": 0.05 if options.quick else 0.2}
    turns = 1 if options.quick else TURNS
    once = {"rounds": turns, "sittings": options.rounds}
    outcomes = contest(LARGE, settings, options, **once, environment=ENVIRONMENT, own=len(OURS))
    ours, unchecked, stream = (outcomes.pop(name) for name in ("thalweg", "thalweg, unchecked", "stream"))
    shown = {"thalweg": ours, **outcomes}
    pages = {name: _pages(outcome) for name, outcome in shown.items()}
    lines = peers(shown, scale=lambda s: s * 1e3, better=lambda mine, theirs: theirs / mine, notes=pages)
    fastest = min((o for o in outcomes.values() if o.samples), key=lambda o: median(o.samples), default=None)
    title = f"{rule}, 2^{size.bit_length() - 1} float32"
    found = [
        Figure(
            title, tuple(s * 1e3 for s in ours.samples), unit="ms", peers=lines, note=ours.problem or pages["thalweg"]
        ),
        Figure(
            f"{title}, over {STREAMS[rule]} + 1 streams",
            _ratios(ours, stream),
            target=Target(high=1.15),
            judged=not options.quick,
            note=stream.problem or _streamed(stream),
        ),
    ]
    if options.peers:
        best = Target(high=1.05)
        note = fastest.title if fastest is not None else "no peer"
        name = f"{title}, unchecked, over the fastest peer"
        found.append(Figure(name, _ratios(unchecked, fastest), target=best, judged=not options.quick, note=note))
    return found


def _streamed(stream: Outcome) -> str:
    return f"stream {median(stream.samples) * 1e3:.2f} ms" if stream.samples else ""


def _pages(outcome: Outcome) -> str:
    """Which part of a contender's memory was in huge pages, in the least lucky of its processes."""
    shares = [one["huge"] for one in outcome.rounds if one.get("huge") is not None]
    return f"{min(shares):.0%} in huge pages" if shares else ""


def _ratios(ours: Outcome, theirs: Outcome | None) -> tuple[float, ...]:
    """Ratios of turns that were next to each other; of several processes the median of each pair's."""
    if theirs is None:
        return ()
    pairs = zip(ours.sittings, theirs.sittings, strict=False)
    found = [
        [
            a / b
            for mine, its in zip(one, other, strict=False)
            for a, b in zip(mine["samples"], its["samples"], strict=False)
        ]
        for one, other in pairs
    ]
    return tuple(found[0]) if len(found) == 1 else tuple(median(ratios) for ratios in found)


def _small(
    name: str, settings: dict[str, Any], options: Options, scale: float, most: float, times: float | None
) -> list[Figure]:
    options.say(name)
    outcomes = contest(SMALL, settings, options)
    ours = outcomes["thalweg"]
    lines = peers(outcomes, scale=lambda s: s * scale, better=lambda mine, theirs: theirs / mine)
    judged = not options.quick
    found = [
        Figure(
            name,
            tuple(s * scale for s in ours.samples),
            unit="µs",
            target=Target(high=most),
            judged=judged,
            peers=lines,
            note=ours.problem,
        )
    ]
    if times is not None and options.peers:
        others = [o for label, o in outcomes.items() if label != "thalweg" and o.samples]
        fastest = min(others, key=lambda o: median(o.samples), default=None)
        ratios = tuple(1 / ratio for ratio in _ratios(ours, fastest))
        note = fastest.title if fastest is not None else "no peer"
        found.append(Figure("the fastest peer over ours", ratios, target=Target(low=times), judged=judged, note=note))
    return found


def _first_step(options: Options) -> list[Figure]:
    options.say("first step of a new process")
    with tempfile.TemporaryDirectory() as cache:
        environment = as_installed(THALWEG_CACHE_DIR=cache)

        def whole(code: str) -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
            return time.perf_counter() - began

        compiling = whole(FIRST)
        turns = [(whole("import numpy"), whole(FIRST)) for _ in range(2 if options.quick else 7)]
    numpy_alone, later = zip(*turns, strict=True)
    return [
        Figure(
            "first step of the second process, from its start",
            later,
            unit="s",
            target=Target(high=0.3),
            judged=not options.quick,
            note=f"the first process, which compiles: {compiling:.2f} s",
        ),
        Figure("a process that imports numpy only", numpy_alone, unit="s"),
    ]
