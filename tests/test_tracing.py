"""Tests the traces that a collector receives from real processes."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs
from support.raw_server import listening
from support.stack import Start, chat, eventually

from shared.monitoring.otel import ReportingExporter

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@dataclass
class Collector:
    """Receives spans by OTLP over HTTP."""

    url: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)  # (name of the service, span)

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(
                    line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line
                )
                body = await reader.readexactly(int(headers["content-length"]))
                self._keep(ExportTraceServiceRequest.FromString(body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def _keep(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = attributes(resource.resource)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [(service, span) for span in scope.spans]

    async def named(self, name: str, count: int) -> list[Span]:
        def found() -> list[Span]:
            return [span for _, span in self.spans if span.name == name]

        async def there() -> bool:
            return len(found()) == count

        await eventually(there)
        return found()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    async with listening(collector.receive) as collector.url:
        yield collector


def attributes(of: Any) -> dict[str, Any]:
    return {entry.key: value(entry.value) for entry in of.attributes}


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in any_value.array_value.values]
    return getattr(any_value, kind)


async def test_request_items_and_attempts_are_one_trace(stack: Start, collector: Collector) -> None:
    deployment = await stack(
        workers=1, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, MAX_RETRIES="1", **SOON
    )
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    requests = [
        chat("planted-prompt one"),
        chat("planted-prompt two", provider="ollama", model="sim-500x1"),
    ]

    await deployment.batch(requests, headers={"traceparent": f"00-{trace}-{parent}-01"})

    [request] = await collector.named("POST /batch", 1)
    [first] = await collector.named("create openrouter", 1)
    [second] = await collector.named("create ollama", 1)
    [answered] = await collector.named("chat m", 1)
    failed, again = sorted(
        await collector.named("chat sim-500x1", 2), key=lambda span: span.start_time_unix_nano
    )
    of_trace = [span for _, span in collector.spans if span.trace_id.hex() == trace]
    assert len(of_trace) == 6
    assert request.parent_span_id.hex() == parent
    assert {first.parent_span_id, second.parent_span_id} == {request.span_id}
    assert answered.parent_span_id == first.span_id
    assert {failed.parent_span_id, again.parent_span_id} == {second.span_id}
    assert attributes(request)["http.response.status_code"] == 200
    assert attributes(failed)["error.type"] == "provider_error"
    assert failed.status.code == 2
    services = {span.span_id: service for service, span in collector.spans}
    assert services[request.span_id] == "orchestrator-api"
    assert services[answered.span_id] == "orchestrator-worker"
    facts = attributes(answered)
    job_id = facts.pop("orchestrator.job.id")
    assert len(job_id) == 32
    assert facts == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 1000,
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ["stop"],
        "orchestrator.item.index": 0,
        "orchestrator.attempt": 1,
    }
    assert "planted" not in str(collector.spans)


async def test_content_is_exported_only_if_the_setting_asks_for_it(
    stack: Start, collector: Collector
) -> None:
    deployment = await stack(
        workers=1,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_CAPTURE_CONTENT="true",
        **SOON,
    )

    await deployment.batch([chat("hello")])

    [span] = await collector.named("chat m", 1)
    facts = attributes(span)
    assert json.loads(facts["gen_ai.input.messages"]) == [{"role": "user", "content": "hello"}]
    assert json.loads(facts["gen_ai.output.messages"])[0]["content"] == "echo: hello"


async def test_buffered_spans_are_sent_at_shutdown(stack: Start, collector: Collector) -> None:
    deployment = await stack(
        workers=1, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="3600000"
    )
    await deployment.batch([chat("x")])

    for process in (deployment.api_process, *deployment.workers):
        process.terminate()

    await collector.named("chat m", 1)
    await collector.named("POST /batch", 1)


async def test_an_unavailable_collector_delays_nothing(stack: Start) -> None:
    deployment = await stack(workers=1, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")

    answer = await deployment.batch([chat(str(n)) for n in range(50)])

    assert answer.json()["successful"] == 50


class Unavailable(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.FAILURE


def test_lost_spans_are_logged_once_a_minute() -> None:
    times = iter([0.0, 1.0, 61.0])
    exporter = ReportingExporter(Unavailable(), "http://key@collector:4318", lambda: next(times))

    with capture_logs() as lines:
        for count in (3, 2, 1):
            exporter.export([ReadableSpan(name="x")] * count)

    assert [line["lost_spans"] for line in lines] == [3, 3]
    assert lines[0] == {
        "event": "traces_not_exported",
        "collector": "collector:4318",
        "lost_spans": 3,
        "consequence": "work continues; check OTEL_EXPORTER_OTLP_ENDPOINT",
        "log_level": "warning",
    }


@pytest.mark.parametrize("module", ["api.main", "worker.__main__"])
async def test_without_tracing_the_sdk_is_not_loaded(module: str) -> None:
    """FastAPI always loads the API of OpenTelemetry, but not its SDK."""
    code = f"import {module}, sys; sys.exit('opentelemetry.sdk' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


@pytest.mark.parametrize("argv", [("-m", "worker"), ("-c", "import api.main")])
async def test_without_the_extra_the_error_names_it(argv: tuple[str, ...]) -> None:
    code = "import sys; sys.modules['opentelemetry.sdk'] = None; import runpy; "
    run = "runpy.run_module('worker', run_name='__main__')" if argv[0] == "-m" else argv[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code + run),
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
            "REDIS_URL": "redis://nowhere",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "pip install -e '.[otel]'" in errors.decode()
    assert "Traceback" not in errors.decode()
