"""HTML as values: whatever is put into an element is escaped, unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *content: Any, **attributes: str) -> Markup:
    """One element with its content escaped; ``class_`` spells the attribute ``class``.

    Example:
        >>> from thalweg.runs.report.markup import element
        >>> element("p", "a < b ", element("b", "&"), class_="note")
        '<p class="note">a &lt; b <b>&amp;</b></p>'
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{named}>{join(content)}</{tag}>")


def join(parts: Iterable[Any]) -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(clean(part)) for part in parts))


def clean(value: Any) -> str:
    """The text of a value without what no HTML page may hold: control characters and lone surrogates."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char in "\n\t" or ord(char) >= 32 else "�" for char in text)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = ()) -> Markup:
    """A table in a box that scrolls sideways where the window is narrow.

    Args:
        head: of the columns.
        rows: each as long as the head.
        numbers: the columns whose cells stand on the right.
    """

    def row(tag: str, cells: Sequence[Any]) -> Markup:
        return element(
            "tr",
            *(element(tag, cell, **({"class_": "number"} if i in numbers else {})) for i, cell in enumerate(cells)),
        )

    body = element("tbody", *(row("td", cells) for cells in rows))
    return element("div", element("table", element("thead", row("th", head)), body), class_="scroll")


def pairs(lines: Iterable[tuple[Any, Any]]) -> Markup:
    """Names and values, two columns."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in lines))


def section(title: str, *content: Any) -> Markup:
    """A section of the page; nothing if there is no content."""
    parts = [part for part in content if part]
    return element("section", element("h2", title), *parts) if parts else Markup("")
