"""The graph contest with pyadjoint Blocks on its own numbers, `AdjFloat`."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from benchmarks.contenders.graph_job import questions
from benchmarks.contenders.worker import Round, serve


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    from pyadjoint import AdjFloat, Block, Control, Tape, compute_derivative, continue_annotation, set_working_tape
    from pyadjoint.tape import get_working_tape

    class Negate(Block):
        def evaluate_adj_component(self, inputs: Any, adj_inputs: Any, *args: Any, **kwargs: Any) -> float:
            return -adj_inputs[0]

    class Pause(Block):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.adj_state = seconds

        def evaluate_adj_component(self, inputs: Any, adj_inputs: Any, *args: Any, **kwargs: Any) -> float:
            time.sleep(self.adj_state)
            return float(adj_inputs[0])

    class Sum(Block):
        def evaluate_adj_component(self, inputs: Any, adj_inputs: Any, *args: Any, **kwargs: Any) -> float:
            return float(adj_inputs[0])

    def record(block: Block, value: float, *inputs: AdjFloat) -> AdjFloat:
        output = AdjFloat(value)
        for x in inputs:
            block.add_dependency(x)
        get_working_tape().add_block(block)
        block.add_output(output.block_variable)
        return output

    def chain(count: int) -> float:
        set_working_tape(Tape())
        continue_annotation()
        y = x = AdjFloat(1.0)
        for _ in range(count):
            y = record(Negate(), -float(y), y)
        return float(compute_derivative(y, Control(x)))

    def branches(count: int, pause: float) -> float:
        set_working_tape(Tape())
        continue_annotation()
        x = AdjFloat(1.0)
        ends = []
        for _ in range(count):
            time.sleep(pause)
            ends.append(record(Pause(pause), float(x), x))
        return float(compute_derivative(record(Sum(), float(count), *ends), Control(x)))

    return {"version": version("pyadjoint-ad")}, questions(settings, chain=chain, branches=branches)


if __name__ == "__main__":
    serve("pyadjoint", setup)
