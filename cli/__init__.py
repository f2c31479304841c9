"""Contains the command `orchestrator`."""

from pathlib import Path
from runpy import run_path

# The file is run by its path, because an import of `shared` could find a folder with this name in
# the working directory.
run_path(str(Path(__file__).resolve().parents[1] / "shared" / "import_path.py"))
