"""The command: ``python -m benchmarks NAME``, with the options that ``--help`` lists."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import graph, imports, lm_calls, prompt, runs, search, steps, waves
from benchmarks.contest import Options
from benchmarks.figures import Figure, table
from benchmarks.machine import machine, machine_line

SUITES: dict[str, Callable[[Options], list[Figure]]] = {
    "waves": waves.figures,
    "graph": graph.figures,
    "steps": steps.figures,
    "runs": runs.figures,
    "search": search.figures,
    "calls": lm_calls.figures,
    "prompt": prompt.figures,
    "imports": imports.figures,
}
NOTES: dict[str, Sequence[str]] = {
    "waves": waves.NOTES,
    "graph": graph.NOTES,
    "steps": steps.NOTES,
    "runs": runs.NOTES,
    "search": search.NOTES,
    "calls": lm_calls.NOTES,
    "prompt": prompt.NOTES,
    "imports": imports.NOTES,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run suites and print their tables; return 1 if a target was not reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Thalweg beside its targets and peers.")
    parser.add_argument("name", choices=[*SUITES, "all"], help="which figures")
    parser.add_argument("--quick", action="store_true", help="shrink what is timed, and judge no time")
    parser.add_argument("--rounds", type=int, help="turns of each contender (5; 1 with --quick)")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--whole", action="store_true", help="also measure checkpoints over whole runs (runs)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], metavar="N", help="these seeds only (prompt)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=search.PARTS,
        metavar="PART",
        help=f"of search: {', '.join(search.PARTS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    given = parser.parse_args(arguments)
    rounds = given.rounds if given.rounds is not None else 1 if given.quick else 5
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, got {rounds}")

    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    options = Options(
        quick=given.quick,
        rounds=rounds,
        peers=not given.no_peers,
        whole=given.whole,
        seeds=tuple(given.seeds),
        only=tuple(given.only),
        say=say,
    )
    print(machine_line(), flush=True)
    report: dict[str, object] = {"machine": machine(), "quick": given.quick, "rounds": rounds}
    missed: list[str] = []
    for name in SUITES if given.name == "all" else [given.name]:
        found = SUITES[name](options)
        print(f"\n{name}\n\n{table(found)}\n")
        for note in NOTES[name]:
            print(textwrap.fill(note, 120, initial_indent="- ", subsequent_indent="  "))
        sys.stdout.flush()
        report[name] = [figure.to_json() for figure in found]
        missed += [figure.name for figure in found if figure.reached is False]
    print(f"\n{'every target that was judged is reached' if not missed else 'NOT REACHED: ' + '; '.join(missed)}")
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
