"""Pages that are made from the package: reference, measures, command line, notebooks, gallery, llms.txt."""

import tomllib
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY: str = PROJECT["urls"]["Repository"]
SITE: str = PROJECT["urls"]["Documentation"]
