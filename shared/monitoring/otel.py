"""Exports OpenTelemetry traces.

One trace covers the HTTP request, its items and every attempt, even across the queue. FastAPI
records the span of the HTTP request. This module needs the extra `otel`; therefore only
`shared.monitoring.tracing` imports it.

Names follow OpenTelemetry's semantic conventions for messaging and for generative AI. An item
carries its context as a W3C Trace Context `traceparent` (https://www.w3.org/TR/trace-context/).
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.queue.item_request import ItemRequest

REPEAT_S = 60.0

log = structlog.get_logger()


class OpenTelemetryTracer:
    """Exports spans in batches, from a separate thread. Spans that do not fit into the buffer are
    dropped, so that a slow collector does not delay calls."""

    def __init__(self, endpoint: str, service: str, *, capture_content: bool) -> None:
        """Creates a tracer.

        endpoint: the collector's base URL (OTLP over HTTP, without `/v1/traces`).
        service: the value of `service.name` in all spans.
        capture_content: whether the spans of attempts contain the prompts and the answers.
        """
        exporter = ReportingExporter(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"), endpoint)
        # The exporter's own lines have tracebacks and repeat the collector's URL.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self.provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self.provider.add_span_processor(_QueryRedactor())
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self.provider.get_tracer("orchestrator")
        self._propagator = TraceContextTextMapPropagator()
        self._capture_content = capture_content

    def close(self) -> None:
        self.provider.shutdown()

    def item_span(self, job_id: str, index: int, provider: str, model: str) -> str:
        span = self._tracer.start_span(
            f"create {provider}",
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "redis",
                "messaging.operation.type": "create",
                "messaging.destination.name": provider,
                "gen_ai.request.model": model,
                "orchestrator.job.id": job_id,
                "orchestrator.item.index": index,
            },
        )
        span.end()
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier["traceparent"]

    @contextmanager
    def attempt_span(
        self, request: ItemRequest, item_id: str, attempt: int
    ) -> Iterator["OpenTelemetryAttemptSpan"]:
        job_id, _, index = item_id.rpartition(":")
        parent = self._propagator.extract({"traceparent": request.get("traceparent", "")})
        operation = request.get("operation", "chat")
        chat = request.get("chat", {})
        parameters = {
            f"gen_ai.request.{name}": chat[name]
            for name in ("temperature", "max_tokens")
            if name in chat
        }
        with self._tracer.start_as_current_span(
            f"{operation} {request['model']}",
            parent,
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": request["provider"],
                "gen_ai.request.model": request["model"],
                **parameters,
                "orchestrator.job.id": job_id,
                "orchestrator.item.index": int(index),
                "orchestrator.attempt": attempt,
            },
            record_exception=False,  # an exception's text may contain the prompt
            set_status_on_exception=False,
        ) as span:
            if self._capture_content:
                span.set_attribute("gen_ai.input.messages", _input(request))
            yield OpenTelemetryAttemptSpan(span, capture_content=self._capture_content)


class ReportingExporter(SpanExporter):
    """Exports spans with `exporter`. Logs failures, at most once in `REPEAT_S` seconds."""

    def __init__(
        self, exporter: SpanExporter, endpoint: str, clock: Callable[[], float] = monotonic
    ) -> None:
        self._exporter = exporter
        self._collector = urlsplit(endpoint).netloc.rpartition("@")[2]
        self._clock = clock
        self._last_line: float | None = None
        self._lost = 0  # spans since the last line

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            now = self._clock()
            if self._last_line is None or now - self._last_line >= REPEAT_S:
                log.warning(
                    "traces_not_exported",
                    collector=self._collector,
                    lost_spans=self._lost,
                    consequence="work continues; check OTEL_EXPORTER_OTLP_ENDPOINT",
                )
                self._last_line, self._lost = now, 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class OpenTelemetryAttemptSpan:
    def __init__(self, span: Span, *, capture_content: bool) -> None:
        self._span = span
        self._capture_content = capture_content

    def answered(
        self, content: str, prompt_tokens: int, completion_tokens: int, finish_reason: str | None
    ) -> None:
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": prompt_tokens,
                "gen_ai.usage.output_tokens": completion_tokens,
                "gen_ai.response.finish_reasons": [finish_reason or ""],
            }
        )
        if self._capture_content:
            answer = [{"role": "assistant", "content": content}]
            self._span.set_attribute("gen_ai.output.messages", _json(answer))

    def failed(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(StatusCode.ERROR)


class _QueryRedactor(SpanProcessor):
    """Replaces the query of an HTTP request by `REDACTED`, because the query may contain
    `webhook_url`, and the webhook's URL may contain a secret."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:  # noqa: ARG002
        if "url.query" in (span.attributes or {}):
            span.set_attribute("url.query", "REDACTED")


def _input(request: ItemRequest) -> str:
    """Returns a native request's messages as JSON, or a foreign body without the model's name."""
    return "".join(request["body"]) if "body" in request else _json(request["chat"]["messages"])


def _json(messages: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(messages).decode()
