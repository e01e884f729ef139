"""Print the oldest versions that pyproject.toml allows, as a constraints file for pip."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
for requirement in project["project"]["dependencies"]:
    sys.stdout.write(re.sub(r">=", "==", requirement) + "\n")
