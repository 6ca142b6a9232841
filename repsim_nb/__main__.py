"""`python -m repsim_nb` is the command `repsim-nb`."""

import sys

from repsim_nb.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
