"""Names and titles as figures show them: literally, whatever characters they contain."""

from __future__ import annotations

import textwrap
from functools import cache

WIDTH, LINES = 48, 3  # limits for user-supplied names of any length


def plain(text: object, width: int = WIDTH) -> str:
    r"""Prepare a text for matplotlib so that it is drawn literally: no math is parsed, and no glyph is missing.

    A character that no font in `rcParams["font.family"]` has is replaced by its escape. Long lines are wrapped, and
    more than three lines are shortened in the middle.

    Parameters
    ----------
    text
        A name, or anything that `str` turns into one.
    width
        Characters per line.

    Examples
    --------
    >>> print(plain("cost in $, as $x$"))
    cost in \$, as \$x\$
    >>> print(plain("a\tb, 日本"))
    a\tb, \u65e5\u672c
    >>> print(plain("checkpoint-" * 20, width=24))
    checkpoint-checkpoint-
    …
    checkpoint-checkpoint-
    """
    import matplotlib as mpl

    fonts = tuple(mpl.rcParams["font.family"])
    lines = []
    for line in str(text).split("\n"):
        shown = "".join(c if _drawable(c, fonts) else c.encode("unicode_escape").decode() for c in line)
        lines += textwrap.wrap(shown, width) or [""]
    if len(lines) > LINES:
        lines = [lines[0], "…", lines[-1]]
    joined = "\n".join(lines)
    return joined.replace("$", r"\$") if mpl.rcParams["text.parse_math"] else joined


def entry(text: object) -> str:
    """Like `plain`, for a legend, which would drop entries that are empty or begin with an underscore."""
    shown = plain(text)
    return f" {shown}" if not shown or shown.startswith("_") else shown


@cache
def _drawable(character: str, families: tuple[str, ...]) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    for family in families:
        try:
            path = findfont(FontProperties(family=[family]), fallback_to_default=False)
        except ValueError:  # font not installed; matplotlib itself warns about it
            continue
        if get_font(path).get_char_index(ord(character)):
            return True
    return False
