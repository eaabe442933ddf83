"""The ``thalweg`` command.

Only typer and rich are imported here; everything heavier is imported by the command that needs it, so that
``thalweg --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Any

try:
    import typer
except KeyboardInterrupt:  # an impatient user deserves no traceback
    sys.exit(130)

from thalweg.cli import computing, reading  # their commands register themselves
from thalweg.cli.app import app

__all__ = ["app", "computing", "main", "reading"]


def main() -> None:
    """Run the command; the entry point of the installed script."""
    code: Any = 0
    unwritten: OSError | None = None
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:  # the commands catch their own: this is the output's
        unwritten = error
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered has nowhere to go; without this the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # that is a reader who has left: `thalweg run head | head -3`
            unwritten = unwritten or error
    if unwritten is not None:
        typer.secho(f"Error: The output cannot be written: {unwritten.strerror}.", fg="red", bold=True, err=True)
        typer.echo("Make room, or write it somewhere else.", err=True)
        code = code or 1
    sys.exit(code)
