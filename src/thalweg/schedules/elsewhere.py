"""What schedules of other libraries are given and ours are not."""

from __future__ import annotations

ADVICE: dict[str, str] = {
    "optimizer": "leave it out, and give the schedule to the optimizer: learning_rate=...",
    "last_epoch": "leave it out, what is counted is the optimizer's and is saved with it",
    "verbose": "leave it out; plot(n) draws the schedule",
    "warmup_steps": "a warm-up is WarmUp(then, duration=warmup_steps)",
    "num_warmup_steps": "a warm-up is WarmUp(then, duration=num_warmup_steps)",
    "alpha": "give minimum=alpha * initial",
    "end_factor": "a warm-up ends at what follows, WarmUp(then, duration=..., fraction=start_factor)",
    "staircase": "tw.schedules.Step goes down in steps",
    "steps_per_epoch": "give the product, duration=epochs * steps_per_epoch, and decay_on_iteration=True",
    "lr_lambda": "any function is a schedule: learning_rate=lambda state: 0.1 / (1 + state.completed_iterations)",
    "transition_begin": "what comes before is a schedule in Join",
    "m_mul": "multiply with another schedule in Chain",
    "cycle_momentum": "give momentum a schedule of its own",
    "base_momentum": "give momentum a schedule of its own",
    "max_momentum": "give momentum a schedule of its own",
}
"""By the name of the parameter there: what to do here."""
