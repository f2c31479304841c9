"""Writes structured logs to stderr: as text if stderr is a terminal, otherwise as JSON."""

import logging
import sys

import structlog

from shared.terminal_text import visible


def configure_logging(level: str) -> None:
    """Configures the loggers of structlog and of the libraries, so that their lines have one form.

    `level` is the name of a level of `logging`, such as "INFO".
    """
    renderer: structlog.typing.Processor = (
        _TerminalRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.error").addFilter(_is_unexpected)
    # At INFO, these loggers write a line for each call or item. The lines of arq repeat arguments,
    # which are prompts. The lines of uvicorn repeat URLs: the query of a URL can contain the secret
    # URL of a webhook.
    for name in ("arq.worker", "httpx", "asyncio", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _TerminalRenderer:
    """Renders an event as coloured text, in which control characters of strings are escaped."""

    def __init__(self) -> None:
        self._render = structlog.dev.ConsoleRenderer()

    def __call__(
        self, logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> str:
        shown = {k: visible(v) if isinstance(v, str) else v for k, v in event.items()}
        return self._render(logger, name, shown)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Returns False for uvicorn's error about a stream that the API itself has closed early.

    The API has logged why: see api.streams.stream_response.
    """
    return record.msg != "ASGI callable returned without completing response."
