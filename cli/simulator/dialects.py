"""Lists the simulated dialects by the names that the simulator's configuration uses."""

from typing import Annotated

from pydantic import AfterValidator

from cli.simulator import anthropic, gemini, ollama, openai

DIALECTS = {
    "openai": openai.CHAT,
    "responses": openai.RESPONSES,
    "embeddings": openai.EMBEDDINGS,
    "anthropic": anthropic.MESSAGES,
    "gemini": gemini.GENERATE_CONTENT,
    "ollama": ollama.CHAT,
}


def dialect_at(path: str) -> str | None:
    return next((name for name, dialect in DIALECTS.items() if path.endswith(dialect.path)), None)


def _known_dialect(name: str) -> str:
    if name not in DIALECTS:
        raise ValueError(f"must be one of {', '.join(DIALECTS)}")
    return name


DialectName = Annotated[str, AfterValidator(_known_dialect)]
