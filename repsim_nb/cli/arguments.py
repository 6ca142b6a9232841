"""The words of a command line, before the parser sees them."""

import argparse
import re
from collections.abc import Sequence

from repsim_nb.errors import InputError

_BETWEEN = "\0"  # between a name and its value; no word of a command line can contain it
_NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


def with_values(arguments: Sequence[str]) -> list[str]:
    """Rewrite arguments so that no value looks like an option: `-p N V` as one word, `--seed -1` as `--seed=-1`."""
    found, rest = [], list(arguments)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word == "-p" and len(rest) > 1:
            word += rest.pop(0) + _BETWEEN + rest.pop(0)
        elif word.startswith("--") and "=" not in word and rest and _NEGATIVE.match(rest[0]):
            word += "=" + rest.pop(0)
        found.append(word)
    return found + rest


def name_and_value(word: str) -> tuple[str, str]:
    """Split a `-p NAME VALUE` that `with_values` has joined."""
    name, between, value = word.partition(_BETWEEN)
    if "=" in name:
        raise argparse.ArgumentTypeError(f"write -p {name.replace('=', ' ', 1)}, without the equals sign")
    if not between:
        raise argparse.ArgumentTypeError("expected 2 arguments, a name and a value")
    return name, value


def parsed_layers(text: str, words: Sequence[str] = ("all",)) -> str | list[int]:
    """Parse one of the words, or comma-separated positions.

    Examples
    --------
    >>> parsed_layers("0,2,4")
    [0, 2, 4]
    """
    if text in words:
        return text
    try:
        return [int(layer) for layer in text.split(",")]
    except ValueError:
        named = ", ".join(map(repr, words))
        raise InputError(f"Layers are {named} or numbers such as 0,2,4; got {text!r}.") from None
