"""Contains the worker, which calls the providers."""

from pathlib import Path
from runpy import run_path

# Run by its path, because `import shared` could find a folder of this name in the working
# directory.
run_path(str(Path(__file__).resolve().parents[1] / "shared" / "import_path.py"))
