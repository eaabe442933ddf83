"""``thalweg report``: one HTML file that shows a run and needs nothing else, now or in ten years.

No script, no network, no other file: pictures and styles are in it, and a policy in its head forbids the browser to
ask anybody for anything. It is light or dark as the reader's system is, and reads on a telephone. Whatever comes from
the run (a title, an error) is shown as text.
"""

from __future__ import annotations

from pathlib import Path

from thalweg.errors import RunError
from thalweg.runs.files import replacing
from thalweg.runs.record import RunRecord
from thalweg.runs.report.page import page


def write_report(run: Path | str, out: Path | str | None = None) -> Path:
    """Write the report of a run: running, ended or killed.

    Args:
        run: its folder. Nothing in it is changed but the report; a writer is not disturbed.
        out: the file; default: ``report.html`` in the folder.

    Returns:
        The file.

    Raises:
        RunError: there is no run, its history cannot be read, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from thalweg.runs.history import HistoryWriter
        >>> from thalweg.runs.report import write_report
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     HistoryWriter(Path(folder) / "run.sqlite").close()
        ...     path = write_report(folder)
        ...     path.name, path.read_text().startswith("<!DOCTYPE html>")
        ('report.html', True)
    """
    record = RunRecord.read(run)
    path = Path(out) if out is not None else record.folder.path / "report.html"
    if path.is_dir():
        raise RunError(f"{path} is a folder, and the report is a file. Name one: --out {path / 'report.html'}")
    text = page(record)
    if not path.parent.is_dir():
        raise RunError(f"There is no folder {path.parent} for the report. Make it, or name another file with --out.")
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8"))
    except RunError as error:
        raise RunError(f"{error} Name a file where you may write: --out {record.name}.html") from error
    return path
