"""Lists the dialects by the names that the rows of providers use."""

from shared.dialects.dialect import Dialect
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI

DIALECTS: dict[str, Dialect] = {"openai": OPENAI, "ollama": OLLAMA}
