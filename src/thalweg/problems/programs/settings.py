"""The tables of a study of kind ``program``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Size = Annotated[int, Field(ge=0, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Table(BaseModel):
    """A table of the study; keys that it does not declare are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSettings(Table):
    """The ``[problem.lm]`` table: the language model that the program calls.

    Either ``base_url`` and ``model`` name one that is served, or ``serve`` names one that the run serves itself.
    """

    base_url: str | None = None  # where the protocol begins, such as "https://example.org/v1"
    model: str | None = None  # the server's name for it
    serve: str | None = None  # "smollm2", or a .gguf file: served on loopback for the time of the run
    api_key_env: str | None = None  # the environment variable with the key
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0  # s, of one attempt
    retries: Size = 4
    paid_retries: Size = 1  # of these, after an attempt that may have been paid for
    concurrency: Count = 8
    threads: Count = 1  # of a model that the run serves
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_tokens: Count = 64
    limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    constrain: bool = True
    price_prompt: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # of a million tokens
    price_completion: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # of a million tokens
    cache: str | None = None  # folder of the answers; the run's own unless given
    extra: dict[str, Any] = Field(default_factory=dict)  # further keys of each request

    @model_validator(mode="after")
    def _one_model(self) -> ModelSettings:
        if (self.serve is None) == (self.base_url is None) or (self.base_url is None) != (self.model is None):
            raise ValueError("give either base_url and model, or serve")
        return self


class StepSettings(Table):
    """One ``[[problem.steps]]`` table: a call of the language model."""

    name: str
    instructions: str = Field(min_length=1)  # where the search begins
    inputs: dict[str, dict[str, Any]]  # JSON schema of each
    outputs: dict[str, dict[str, Any]]  # JSON schema of each
    answer: Literal["text", "json"] = "text"
    examples: Size = 0  # the most that may be shown; 0 shows none
    max_tokens: Count | None = None
    description: str | None = None  # what the step is for, for a model that rewrites it


class ProgramSettings(Table):
    """The ``[problem]`` table."""

    data: str  # a .jsonl file, one inside of a wheel, or package:path
    fields: dict[str, str]  # the path of each field in a row
    expected: dict[str, str] = Field(min_length=1)  # for each output that is scored, the field that it should be
    metric: str = "exact"
    train: Count
    held_out: Size = 0
    test: Size = 0
    split_seed: Size | None = None  # of the three parts; the study's seed unless given
    examples_from: Count | None = None  # so many of the training samples can be shown; all unless given
    steps: list[StepSettings] = Field(min_length=1)
    lm: ModelSettings


class ProgramBlock(Table):
    """Blocks have no keys of this problem's."""
