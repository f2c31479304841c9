"""Removes the working directory from the import path, unless the project is there.

uvicorn and `python -m` put the working directory at the start of the import path. A folder `shared`
in the working directory would run in place of this project's package, and could read the keys of
the providers in the environment. Therefore `api`, `cli` and `worker` run this file before they
import anything else of the project.
"""

import sys
from contextlib import suppress
from pathlib import Path

with suppress(FileNotFoundError):  # the working directory has been deleted
    if Path.cwd() != Path(__file__).resolve().parents[1]:
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
