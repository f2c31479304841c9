"""Removes the working directory from the import path, unless the project is there.

uvicorn and `python -m` put it at the start of the path. A folder `shared` in it would run in place
of this project's package, with the keys of the providers in its environment. Therefore `api`, `cli`
and `worker` run this file before they import anything else of the project.
"""

import sys
from contextlib import suppress
from pathlib import Path

with suppress(FileNotFoundError):  # the working directory has been deleted
    if Path.cwd() != Path(__file__).resolve().parents[1]:
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
