"""The reference of the command line, from its own parsers."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from repsim_nb.cli.command import parser

WIDTH = "100"  # columns of the usage lines


def write(folder: Path) -> None:
    """Write the page of the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "command-line.md").write_text(page(), encoding="utf-8")


def commands() -> dict[str, argparse.ArgumentParser]:
    """The commands of `repsim-nb` by name, with all their options."""
    whole = parser()
    (action,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    found: dict[str, argparse.ArgumentParser] = dict(action.choices)
    for command in found.values():
        late, command.late = command.late, None  # type: ignore[attr-defined]
        if late is not None:
            late(command)
    return found


def page() -> str:
    """The page, in Markdown."""
    os.environ["COLUMNS"] = WIDTH
    parts = [
        "# Command line",
        "`repsim-nb` is also `python -m repsim_nb`. Bad input prints one line and ends with exit code 2, a failed "
        "notebook with 1, Ctrl-C with 130.",
    ]
    for name, command in commands().items():
        usage = command.format_usage().removeprefix("usage: ").strip()
        parts += [f"## repsim-nb {name}", command.description or "", f"```text\n{usage}\n```", *_options(command)]
    return "\n\n".join(parts) + "\n"


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    rows = [
        f"| {_words(action)} | {_cell(_help(command, action))} |"
        for action in command._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    yield "\n".join(["| argument | what it does |", "|---|---|", *rows])


def _words(action: argparse.Action) -> str:
    takes = action.metavar or ("{" + ", ".join(map(str, action.choices)) + "}" if action.choices else "")
    takes = " ".join(takes) if isinstance(takes, tuple) else str(takes)
    if not action.option_strings:
        return f"`{takes or action.dest}`"
    valued = action.nargs != 0 and takes
    return ", ".join(f"`{word} {takes}`" if valued else f"`{word}`" for word in action.option_strings)


def _help(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": command.prog}
    return text or ("one of " + ", ".join(map(str, action.choices)) if action.choices else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
