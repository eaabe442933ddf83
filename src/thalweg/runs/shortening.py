"""An error in one line, for the events and for what a run is ended with."""

from __future__ import annotations


def said(error: str) -> str:
    """What an error says in one line: of a traceback the last one's type and message, without its frames and notes.

    Example:
        >>> import traceback
        >>> from thalweg.runs.shortening import said
        >>> try:
        ...     float("a number")
        ... except ValueError as error:
        ...     error.add_note("while working on item 0")
        ...     text = "".join(traceback.format_exception(error))
        >>> said(text), said("RunError: no reward"), said("")
        ("ValueError: could not convert string to float: 'a number'", 'RunError: no reward', 'no message')
    """
    _, header, rest = error.rpartition("Traceback (most recent call last):\n")
    lines = rest.strip("\n").splitlines()
    plain = [line for line in lines if line.strip() and not (header and line.startswith(" "))]
    if not plain:
        return "no message"
    return plain[0 if header else -1].strip()
