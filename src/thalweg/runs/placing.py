"""From the ``[runtime]`` table of a study to the runtime that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thalweg.runs.settings import DaskRuntime, LocalRuntime
from thalweg.runtime import Dask, Local


def make_runtime(table: LocalRuntime | DaskRuntime, note: Callable[[str], None], folder: Path = Path()) -> Local | Dask:
    """The runtime of a study, to be entered and left.

    Args:
        table: the study's.
        note: told what a person at the terminal should know; may be called from any thread.
        folder: where relative paths in the table start; by default at the present folder.

    Raises:
        MissingExtraError: it is a cluster, and Dask is not installed.

    Example:
        >>> from thalweg.runs.placing import make_runtime
        >>> from thalweg.runs.settings import LocalRuntime
        >>> with make_runtime(LocalRuntime(threads=3), print) as runtime:
        ...     runtime.workers
        3
    """
    if isinstance(table, LocalRuntime):
        return Local(table.threads)

    def path(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    return Dask(
        table.scheduler,
        workers=table.workers,
        ca_file=path(table.ca_file),
        cert_file=path(table.cert_file),
        key_file=path(table.key_file),
        patience=table.patience,
        retries=table.retries,
        note=note,
    )
