"""An answer: what a server's JSON says, checked before anybody relies on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from thalweg.lm.spending import Usage

MOST_TOKENS = 1 << 30
"""No request has as many; a server that says so has not counted."""


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Args:
        text: the answer.
        finish_reason: why it ended: ``"stop"``, or ``"length"`` if it was cut off at ``max_tokens``.
        usage: the tokens that it cost when it was received.
        counted: whether the server counted both numbers; else one or both are the bound that was reserved.
        lost: the bounds of attempts before that may have been paid for, too.
        cached: whether it was read from the disk this time, and so cost nothing now.

    Example:
        >>> from thalweg.lm import Answer, Usage
        >>> Answer("Four.", "stop", Usage(12, 2)).truncated
        False
    """

    text: str
    finish_reason: str
    usage: Usage
    counted: bool = True
    lost: Usage = field(default_factory=Usage)
    cached: bool = False

    @property
    def charged(self) -> Usage:
        """All that may have been paid for it."""
        return self.usage + self.lost

    @property
    def truncated(self) -> bool:
        """Whether it was cut off at ``max_tokens``."""
        return self.finish_reason == "length"

    def to_json(self) -> dict[str, Any]:
        """As it is kept on disk."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": {"prompt": self.usage.prompt, "completion": self.usage.completion},
            "counted": self.counted,
            "lost": {"prompt": self.lost.prompt, "completion": self.lost.completion},
        }

    @classmethod
    def from_json(cls, document: Any) -> Answer:
        """What :meth:`to_json` gave, as read from the disk.

        Raises:
            ValueError: it is no such thing.
        """
        try:
            usage, lost = Usage(**document["usage"]), Usage(**document["lost"])
            answer = cls(**{**document, "usage": usage, "lost": lost}, cached=True)
        except (TypeError, KeyError) as error:
            raise ValueError(f"it is no answer ({error})") from error
        numbers = all(type(n) is int for n in (usage.prompt, usage.completion, lost.prompt, lost.completion))
        texts = isinstance(answer.text, str) and isinstance(answer.finish_reason, str)
        if not (numbers and texts and isinstance(answer.counted, bool)):
            raise ValueError("it is no answer: a field has the wrong type")
        return answer

    def again(self) -> Answer:
        """The same for somebody else who asked the same: it cost nothing now."""
        return replace(self, cached=True)


def read_answer(document: Any, most: Usage, *, key: str | None = None) -> Answer:
    """The answer in a server's response.

    Args:
        document: its JSON: ``choices[0].message.content``, ``choices[0].finish_reason``, ``usage``.
        most: the bound: of each number that the server does not count, or counts as less than there was.
        key: what is not shown.

    Raises:
        ValueError: what is missing, in words.
    """
    if not isinstance(document, dict):
        raise ValueError("its JSON is no object")
    if document.get("error"):
        raise ValueError(f"it reports an error: {error_text(document, key=key)}")
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ValueError("it has no choices[0].message")
    text = message.get("content")
    if text is None and message.get("refusal"):
        raise ValueError(f"the model refused: {hidden(str(message['refusal']), key)[:200]}")
    if not isinstance(text, str):
        raise ValueError(f"its choices[0].message.content is {hidden(repr(text), key)[:200]} and no text")
    # What could not be written down again would be paid for and lost.
    text = text.encode("utf-8", "replace").decode()
    reason = choice.get("finish_reason")
    usage, counted = _usage(document.get("usage"), text, most)
    return Answer(text, reason if isinstance(reason, str) else "stop", usage, counted=counted)


def error_text(document: Any, *, key: str | None = None) -> str:
    """What a server says went wrong, in one line of at most 300 characters, without the key."""
    error = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    line = " ".join("".join(c if c.isprintable() else " " for c in hidden(str(error), key)).split())
    return line[:300]


def hidden(text: str, key: str | None) -> str:
    """A text without the key, as servers quote what they refuse. Before it is cut, or a part of the key would stay."""
    return text.replace(key, "[the key]") if key else text


def _usage(document: Any, text: str, most: Usage) -> tuple[Usage, bool]:
    """What a server has counted, and whether it is all of it: the bound stands for what is no count, or less than there
    was. Every prompt has a token, for the marks of its messages at least, and so has every answer that is not empty."""
    counts = document if isinstance(document, dict) else {}
    prompt = _count(counts.get("prompt_tokens"), 1)
    completion = _count(counts.get("completion_tokens"), 1 if text else 0)
    usage = Usage(most.prompt if prompt is None else prompt, most.completion if completion is None else completion)
    return usage, prompt is not None and completion is not None


def _count(number: Any, least: int) -> int | None:
    # A bool is an int, too
    return number if type(number) is int and least <= number < MOST_TOKENS else None
