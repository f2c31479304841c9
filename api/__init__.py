"""Contains the HTTP API."""

from pathlib import Path
from runpy import run_path

# By its path: an import of `shared` could find a folder of the working directory.
run_path(str(Path(__file__).resolve().parents[1] / "shared" / "import_path.py"))
