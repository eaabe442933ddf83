"""Why numba refused a rule's text: it tells of every function on the way there, and the reason somewhere among them."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

_DOWN = re.compile(r"\s*(\w+: )?Failed in \w+ mode pipeline|\s*Rejected as the implementation raised a specific error")
_UP = re.compile(r"\s*(raised from |During: )")
_PLACE = re.compile(r"\s*During: typing of .* at (?P<file>.+) \((?P<line>\d+)\)$")
_OURS = Path(__file__).parents[1]  # where the text was called from, which is not what is wrong


def reason(message: str) -> str:
    """The innermost reason of a numba error, with the place in a text that it is about.

    Args:
        message: the error's text.

    Returns:
        Its lines between the last way down and the first way up; the whole text if it is built otherwise.

    Example:
        >>> from thalweg.lowering.reasons import reason
        >>> reason('''Failed in nopython mode pipeline (step: nopython frontend)
        ... No implementation of function Function(<function update at 0x7f>) found for signature:
        ...   Rejected as the implementation raised a specific error:
        ...     TypingError: Failed in nopython mode pipeline (step: nopython frontend)
        ...   NameError: name 'grod' is not defined
        ...   During: Pass nopython_type_inference''')
        "NameError: name 'grod' is not defined"
    """
    lines = message.splitlines()
    down = max((k for k, line in enumerate(lines) if _DOWN.match(line)), default=-1)
    up = next((k for k in range(down + 1, len(lines)) if _UP.match(lines[k])), len(lines))
    said = takewhile(lambda line: not line.startswith("File "), (line.strip() for line in lines[down + 1 : up]))
    found = " ".join(line.removeprefix("TypingError: ") for line in said if line)
    if down < 0 or not found:
        return message
    place = next((match for line in lines[up:] if (match := _PLACE.match(line))), None)
    if place is None or Path(place["file"]).is_relative_to(_OURS):
        return found
    return f"{found} ({place['file']}, line {place['line']})"
