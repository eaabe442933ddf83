"""The generic part of a study: what every run has, whatever it optimizes.

A study is a TOML file::

    title = "Ultrasound tomography of a head slice"   # one line, printed
    description = "..."                               # one line, for the list of studies
    seed = 1                                          # every random number follows from it
on_failed_shot = "stop"                           # or "reweight": go on without an item that fails for good

    [problem]
    kind = "waves"                                    # further keys are the problem's

    [optimizer]
    kind = "adam"                                     # further keys are the optimizer's
    learning_rate = 10.0

    [[blocks]]                                        # one table a block of iterations, in order
    name = "low"
    iterations = 8
    selection = "random"                              # "all", "every" or "random"
    batch_size = 32                                   # shots (rows, samples) an iteration
    optimizer = { learning_rate = 5.0 }               # from this block on
    ...                                               # further keys are the problem's

    [runtime]
    kind = "local"                                    # or "dask": a cluster, docs/cluster.md
    threads = 2                                       # default: every core that the process may use

    [budget]                                          # the most that may be spent
    seconds = 3600                                    # a search has evaluations, tokens and money, too

    [output]
    folder = "runs"                                   # where runs go that are not told where
    figures = true
    checkpoint_every = 10                             # iterations
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Strict(BaseModel):
    """Unknown keys are refused, and "8" is not 8."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GenericBlock(_Strict):
    """What every ``[[blocks]]`` table has; the problem adds its own keys.

    Args:
        name: what the block is called in the display and the figures; default: its number.
        iterations: how many, at least 1.
        selection: which items an iteration takes: ``"all"``; ``"every"`` n-th with an offset that rotates; or
            ``"random"`` ones, none of them twice before all had their turn.
        batch_size: at most so many items an iteration. With ``"every"`` and ``"random"`` a pass through all
            items takes ⌈items / batch_size⌉ iterations, whose batches differ by one item at most.
        optimizer: hyperparameters that change with this block, such as ``{ learning_rate = 5.0 }``.
        reset_optimizer: begin this block with the optimizer's memory (momentum, moments) empty. The counters
            of iterations and epochs that schedules follow go on.
    """

    name: str | None = Field(default=None, min_length=1)
    iterations: int = Field(ge=1)
    selection: Literal["all", "every", "random"] = "all"
    batch_size: int | None = Field(default=None, ge=1)
    optimizer: dict[str, Any] = Field(default_factory=dict)
    reset_optimizer: bool = False

    @model_validator(mode="after")
    def _selection_fits(self) -> GenericBlock:
        if self.selection == "all" and self.batch_size is not None:
            raise ValueError(
                'batch_size is given, and selection = "all" takes every item in each iteration; '
                'leave batch_size out, or choose selection = "every" or "random"'
            )
        if self.selection != "all" and self.batch_size is None:
            raise ValueError(f'batch_size is missing: selection = "{self.selection}" needs one')
        return self


class LocalRuntime(_Strict):
    """Threads of this machine.

    Args:
        threads: default: one for each core that the process may use.
    """

    kind: Literal["local"] = "local"
    threads: int | None = Field(default=None, ge=1)


class DaskRuntime(_Strict):
    """A Dask cluster: an existing scheduler, or worker processes of this machine.

    Args:
        scheduler: the address of an existing scheduler, such as ``"tcp://node1:8786"``.
        workers: without a scheduler, how many processes to start here; default: one for each core that the
            process may use.
        ca_file: for a ``tls://`` address: the certificate of the authority that is trusted.
        cert_file: the same: our certificate.
        key_file: the same: its key.
        patience: s without a sign of life from any worker after which the run fails; a single worker is given up
            after half of it, and its items are computed again.
        retries: how often an item that failed by an error of its own is tried again.
    """

    kind: Literal["dask"] = "dask"
    scheduler: str | None = Field(default=None, min_length=1)
    workers: int | None = Field(default=None, ge=1)
    ca_file: str | None = Field(default=None, min_length=1)
    cert_file: str | None = Field(default=None, min_length=1)
    key_file: str | None = Field(default=None, min_length=1)
    patience: float = Field(default=30.0, gt=0.0, allow_inf_nan=False)
    retries: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> DaskRuntime:
        if self.scheduler is not None and self.workers is not None:
            raise ValueError("scheduler and workers are both given; a scheduler has the workers that it has")
        files = (self.ca_file, self.cert_file, self.key_file)
        if any(files) and not (all(files) and self.scheduler and self.scheduler.startswith("tls://")):
            raise ValueError(
                "TLS needs all of ca_file, cert_file and key_file, and a scheduler whose address begins with tls://"
            )
        return self


class OutputSettings(_Strict):
    """Where a run is written.

    Args:
        folder: the folder of the run folders ``<study>-<n>`` that are made when ``--out`` does not say
            otherwise.
        figures: whether pictures are drawn at the end.
        checkpoint_every: a checkpoint at least every so many iterations, and one at the end of each block.
        keep: so many of the newest checkpoints are kept.
        keep_best: keep besides, of each block, the one whose model had the lowest loss an item in the iteration after
            it: where a block ends, of the block that begins there.
        keep_every: make a checkpoint after each so many iterations of the run, and keep all of these.
        checkpoint_shots: keep finished sums of the iteration in progress, too; for items of minutes and more.
    """

    folder: str = Field(default="runs", min_length=1)
    figures: bool = True
    checkpoint_every: int = Field(default=10, ge=1)
    keep: int = Field(default=3, ge=1)
    keep_best: bool = False
    keep_every: int | None = Field(default=None, ge=1)
    checkpoint_shots: bool = False


class BudgetSettings(_Strict):
    """The most that a run may spend; it stops before it would spend more. No limit unless one is given.

    Args:
        evaluations: of a search: candidates times samples, those of the final choice included.
        tokens: of a search with a language model: of prompts and answers together.
        money: the same, in the currency of the model's price list.
        seconds: no iteration begins after so many seconds of the run, and no evaluation of a search, but for its final
            choice.
    """

    evaluations: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    money: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    seconds: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)


class StudySettings(_Strict):
    """The whole file; ``problem``, ``optimizer`` and the problem's keys in ``blocks`` are validated by their
    owners."""

    title: str = Field(min_length=1)
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    on_failed_shot: Literal["stop", "reweight"] = "stop"
    problem: dict[str, Any]
    optimizer: dict[str, Any]
    blocks: list[dict[str, Any]] = Field(min_length=1)
    runtime: LocalRuntime | DaskRuntime = Field(default_factory=LocalRuntime, discriminator="kind")
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)

    @field_validator("runtime", mode="before")
    @classmethod
    def _local_unless_said(cls, table: Any) -> Any:
        return {"kind": "local", **table} if isinstance(table, dict) else table
