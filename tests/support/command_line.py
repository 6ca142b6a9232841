"""The command line as a test calls it."""

from repsim_nb.cli.command import main


def refused(capsys, *arguments):
    """The one line on stderr with which the command refuses."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("repsim-nb: error: ")
    return printed.err
