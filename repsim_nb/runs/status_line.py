"""A status line on the terminal with the running cell of a notebook."""

import shutil
import sys
import time
from typing import Any

_CLEAR = "\r\x1b[K"


class Progress:
    """Called by the notebook client at the start of each cell; silent unless `shown`.

    `shown=None` shows it if stderr is a terminal.
    """

    def __init__(self, name: str, n_cells: int, shown: bool | None = None):
        self.name = name
        self.n_cells = n_cells
        self.shown = sys.stderr.isatty() if shown is None else shown
        self.cell = 0  #: index of the cell that was started last
        self.heading = ""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self._start

    def __call__(self, cell: Any, cell_index: int) -> None:
        """Update the line for the cell that starts."""
        self.cell = cell_index
        if cell["cell_type"] == "markdown":
            headings = [line.lstrip("# ") for line in cell["source"].splitlines() if line.startswith("#")]
            self.heading = headings[-1] if headings else self.heading
        if self.shown:
            number = min(cell_index + 1, self.n_cells)
            line = f"{self.name}: cell {number} of {self.n_cells}, {self.seconds:.0f} s  {self.heading}"
            print(_CLEAR + line[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Erase the line."""
        if self.shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
