"""All dialects, by the name that a provider's row uses."""

from worker.providers.dialect import Dialect
from worker.providers.ollama import OLLAMA
from worker.providers.openai import OPENAI

DIALECTS: dict[str, Dialect] = {"openai": OPENAI, "ollama": OLLAMA}
