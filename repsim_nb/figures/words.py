"""Names and titles as figures show them: to the letter, whatever is in them."""

from __future__ import annotations

import textwrap
from functools import cache

WIDTH, LINES = 48, 3  # of what is not ours and may be as long as it likes


def plain(text: object, width: int = WIDTH) -> str:
    r"""A text for matplotlib that is drawn as it is: no formula is parsed in it, and no glyph is missing.

    A character that no font of `rcParams["font.family"]` has stands as its escape. Long lines are broken; what would
    take more than three is shortened in its middle.

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
    """The same for a legend, which leaves out what is empty or begins with an underscore."""
    shown = plain(text)
    return f" {shown}" if not shown or shown.startswith("_") else shown


@cache
def _drawable(character: str, families: tuple[str, ...]) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    for family in families:
        try:
            path = findfont(FontProperties(family=[family]), fallback_to_default=False)
        except ValueError:  # no such font here; matplotlib warns of that itself
            continue
        if get_font(path).get_char_index(ord(character)):
            return True
    return False
