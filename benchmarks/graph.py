"""The figures of the adjoint graph: overhead, depth, and what runs at the same time."""

from __future__ import annotations

from typing import Any

from benchmarks.contest import Options, contest, peers
from benchmarks.figures import Figure, Target

CONTENDERS = {
    "thalweg": "graph_thalweg",
    "torch.autograd.Function": "graph_torch",
    "pyadjoint": "graph_pyadjoint",
    "HIPS autograd": "graph_autograd",
}
OURS = {"thalweg": "graph_thalweg"}
NOTES = (
    "Every operator of a chain is y = −x on one float64 (a one-element array; pyadjoint's own AdjFloat), written as a "
    "user would: tw.Operator, torch.autograd.Function, pyadjoint Block, autograd primitive with its vjp. Time is that "
    "of building the graph forward and of the adjoint run, per operator; every gradient is checked.",
    "Branches wait 5 ms forward and 5 ms back: Thalweg's are coroutines that sleep, the peers' call time.sleep, since "
    "they know no other way to wait.",
    "Two kernels: numba, nogil, on two branches, forward and adjoint, over the time of the same four calls one by one. "
    "The peers run branches one after the other.",
)


SCALES = {"µs": 1e6, "ms": 1e3, "": 1.0}


def figures(options: Options) -> list[Figure]:
    """Measure everything; ``--quick`` shortens what is timed."""
    length, at_least = (200, 0.01) if options.quick else (1000, 0.3)
    chain: dict[str, Any] = {"figure": "chain", "count": length, "at_least": at_least, "warm": True}
    long = {"figure": "chain", "count": 100_000, "at_least": 0.0, "warm": False}
    branches = {"figure": "branches", "count": 64, "pause": 0.005, "at_least": 0.0}
    kernels = {"figure": "kernels", "count": 500_000 if options.quick else 30_000_000}
    as_coroutines = chain | {"coroutines": True}
    at_most = [Target(high=limit) for limit in (8.0, 8.0, 40.0, 0.6)]
    return [
        _figure(f"chain of {length} operators, an operator", chain, options, "µs", at_most[0]),
        _figure("the same with coroutines as operators", as_coroutines, options, "µs", at_most[1], OURS),
        _figure("chain of 100000 operators, an operator", long, options, "µs", Target(text="works")),
        _figure("64 branches of 5 ms each way", branches, options, "ms", at_most[2]),
        _figure("two nogil kernels on two branches, together / serial", kernels, options, "", at_most[3], OURS),
    ]


def _figure(
    name: str,
    settings: dict[str, Any],
    options: Options,
    unit: str,
    target: Target,
    contenders: dict[str, str] = CONTENDERS,
) -> Figure:
    options.say(name)
    works = bool(target.text)  # there is no time to reach: once is enough, and --quick judges it too
    outcomes = contest(contenders, settings, options, rounds=1 if works else None)
    ours = next(iter(outcomes.values()))
    scale = SCALES[unit]
    return Figure(
        name,
        tuple(scale * sample for sample in ours.samples),
        unit=unit,
        target=target,
        judged=works or not options.quick,
        note=ours.problem,
        peers=peers(outcomes, scale=lambda seconds: scale * seconds, better=lambda our, their: their / our),
    )
