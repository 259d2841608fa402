# SPDX-License-Identifier: Apache-2.0
"""HTML as values: whatever is not markup already is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset(
    {"img", "meta", "br", "hr", "input", "link", "rect", "line", "circle", "path", "image"}
)


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        tag: Its name.
        children: Markup as it is, other things as escaped text, None as nothing.
        attributes: ``class_`` is ``class``, other underscores are hyphens; None and False are
            left out, True has no value.

    >>> element("p", "a < b", class_="note", hidden=True, id=None)
    '<p class="note" hidden>a &lt; b</p>'
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{escape(str(value))}"')
    head = " ".join(words)
    if tag in _VOID and not children:
        return Html(f"<{head}/>" if tag in _SVG else f"<{head}>")
    return Html(f"<{head}>{join(children)}</{tag}>")


_SVG = frozenset({"rect", "line", "circle", "path", "image"})


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is markup.

    >>> join(["a & b", Html("<br>")])
    'a &amp; b<br>'
    """
    return Html(
        between.join(
            part if isinstance(part, Html) else escape(str(part))
            for part in parts
            if part is not None
        )
    )


def table(
    caption: object,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    numbers: bool = True,
) -> Html:
    """A table whose first column names its rows, in a frame that scrolls on a narrow screen.

    Args:
        caption: What it shows.
        head: Names of the columns.
        rows: Cells.
        numbers: Whether the cells beside the names are numbers, to be aligned as such.
    """
    kind = "numbers" if numbers else None
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", "-" if cell is None else cell) for cell in row[1:]),
        )
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *(element("th", h, scope="col") for h in head))),
            element("tbody", *body),
            class_=kind,
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=f"Table: {caption}",
    )


def fold(title: object, *children: object) -> Html:
    """What is shown only when asked for; printed always."""
    return element("details", element("summary", title), *children)


def section(name: str, title: str, *children: object) -> Html:
    """A part of the page under its own heading."""
    return element(
        "section", element("h2", title, id=f"{name}-title"), *children,
        id=name, aria_labelledby=f"{name}-title",
    )  # fmt: skip


def missing(*what: object) -> Html:
    """A line about what is not there, and how to get it."""
    return element("p", *what, class_="missing")


def code(text: object) -> Html:
    """Something to type."""
    return element("code", text)
