"""Lists the dialects by the names that the rows of providers use."""

from shared.dialects.anthropic import ANTHROPIC
from shared.dialects.dialect import Dialect
from shared.dialects.gemini import GEMINI
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI

DIALECTS: dict[str, Dialect] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "ollama": OLLAMA,
}
