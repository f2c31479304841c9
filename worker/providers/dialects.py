"""Lists the dialects by the names that the rows in `shared/providers.py` use."""

from worker.providers.dialect import Dialect
from worker.providers.ollama import OLLAMA
from worker.providers.openai import OPENAI

DIALECTS: dict[str, Dialect] = {"openai": OPENAI, "ollama": OLLAMA}
