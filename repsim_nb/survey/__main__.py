"""`make survey`."""

from pathlib import Path

from repsim_nb.survey.run import run

if __name__ == "__main__":
    print(run(Path("results", "survey")))
