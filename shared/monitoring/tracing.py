"""Defines the tracer interface, and a tracer that records nothing.

Without tracing, the OpenTelemetry SDK is not imported, because it belongs to an extra.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from shared.queue.item_request import ItemRequest
from shared.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class AttemptSpan(Protocol):
    """Records one attempt.

    Before the span ends, the worker calls `answered` or `failed`. A call that is stopped, or that
    raises an unexpected exception, gets neither.
    """

    def answered(
        self, content: str, prompt_tokens: int, completion_tokens: int, finish_reason: str | None
    ) -> None: ...

    def failed(self, code: str) -> None: ...


class Tracer(Protocol):
    """Records the spans of items and attempts."""

    @property
    def provider(self) -> "TracerProvider | None":
        """Returns the tracer provider with which FastAPI records HTTP requests; None without
        tracing."""

    def item_span(self, job_id: str, index: int, provider: str, model: str) -> str | None:
        """Records that an item was created. Returns the `traceparent` that the item's attempts
        continue, or None without tracing."""

    def attempt_span(
        self, request: ItemRequest, item_id: str, attempt: int
    ) -> AbstractContextManager[AttemptSpan]:
        """Returns a context manager whose span records one attempt, as a child of the item's
        span."""

    def close(self) -> None:
        """Sends the spans that are still buffered; this may take seconds."""


class NoAttemptSpan:
    def answered(
        self, content: str, prompt_tokens: int, completion_tokens: int, finish_reason: str | None
    ) -> None:
        pass

    def failed(self, code: str) -> None:
        pass


class NoTracer:
    """Records nothing."""

    provider = None

    def item_span(self, job_id: str, index: int, provider: str, model: str) -> None:
        pass

    def attempt_span(
        self,
        request: ItemRequest,  # noqa: ARG002
        item_id: str,  # noqa: ARG002
        attempt: int,  # noqa: ARG002
    ) -> AbstractContextManager[AttemptSpan]:
        return _NO_ATTEMPT_SPAN

    def close(self) -> None:
        pass


_NO_ATTEMPT_SPAN = nullcontext(NoAttemptSpan())
NO_TRACER = NoTracer()


def load_tracer(settings: Settings, service: str) -> Tracer:
    """Returns a tracer that exports to the endpoint in the settings, or `NO_TRACER`.

    Raises SettingsError if an endpoint is set and the extra `otel` is not installed.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return NO_TRACER
    try:
        from shared.monitoring.otel import OpenTelemetryTracer  # noqa: PLC0415 — an extra
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra `otel`: pip install -e '.[otel]'"
        ) from None
    return OpenTelemetryTracer(endpoint, service, capture_content=settings.otel_capture_content)
