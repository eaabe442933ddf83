"""A figure: what was measured, what it should be, what the peers reach; and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Target:
    """An interval that a value must lie in; or a ``text``, for what only has to have a value."""

    low: float = float("-inf")
    high: float = float("inf")
    text: str = ""

    def met(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.text:
            return self.text
        if self.low == float("-inf"):
            return f"≤ {number(self.high)}"
        if self.high == float("inf"):
            return f"≥ {number(self.low)}"
        return f"{number(self.low)} to {number(self.high)}"


@dataclass(frozen=True)
class Peer:
    """What somebody else reaches, or why there is no value."""

    name: str
    samples: tuple[float, ...] = ()
    comparison: str = ""  # ours against theirs
    note: str = ""  # also why there are no samples


@dataclass(frozen=True)
class Figure:
    """One line of a table, with the peers' lines below it."""

    name: str
    samples: tuple[float, ...]
    unit: str = ""
    target: Target | None = None
    note: str = ""
    peers: tuple[Peer, ...] = ()
    judged: bool = True  # False for a time measured at reduced size
    choose: Callable[[Sequence[float]], float] = median  # max for an error, whose worst case counts

    @property
    def value(self) -> float | None:
        return self.choose(self.samples) if self.samples else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; False without a value, None where there is nothing to judge."""
        if self.value is None:
            return False
        if self.target is None or not self.judged:
            return None
        return self.target.met(self.value)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "NO VALUE"
        if self.target is None:
            return ""
        if not self.judged:
            return "not judged (--quick)"
        return "ok" if self.reached else "NOT REACHED"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "samples": list(self.samples),
            "target": str(self.target) if self.target else None,
            "verdict": self.verdict,
            "note": self.note,
            "peers": [
                asdict(peer) | {"value": self.choose(peer.samples) if peer.samples else None} for peer in self.peers
            ],
        }


def number(value: float) -> str:
    """Write a number with three digits, and in plain notation where that is short."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e7 else text


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table of plain text."""
    rows = [("figure", "value", "least – most", "target", "", "")]
    for figure in figures:
        rows.append(
            (
                figure.name,
                f"{number(figure.value)} {figure.unit}".strip() if figure.value is not None else "none",
                _spread(figure.samples),
                _target(figure),
                figure.verdict,
                figure.note,
            )
        )
        for peer in figure.peers:
            value = f"{number(figure.choose(peer.samples))} {figure.unit}".strip() if peer.samples else "–"
            rows.append((f"    {peer.name}", value, _spread(peer.samples), "", peer.comparison, peer.note))
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[5]]).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def _target(figure: Figure) -> str:
    if figure.target is None or figure.target.text:
        return str(figure.target or "")
    return f"{figure.target} {figure.unit}".strip()


def _spread(samples: Sequence[float]) -> str:
    return f"{number(min(samples))} – {number(max(samples))}" if len(samples) > 1 else ""
