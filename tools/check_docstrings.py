"""Validate the docstrings of the package by numpydoc, with the checks named in pyproject.toml.

Only because a shell's ``src/**/*.py`` is not to be had on every system.
"""

import sys
from pathlib import Path

from numpydoc.hooks.validate_docstrings import run_hook

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    files = sorted(map(str, (ROOT / "src").rglob("*.py")))
    sys.exit(run_hook(files, config=str(ROOT)))
