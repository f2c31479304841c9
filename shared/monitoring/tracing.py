"""Whether there are traces; without, nothing of OpenTelemetry is imported."""

from typing import TYPE_CHECKING

from shared.settings import Settings, SettingsError

if TYPE_CHECKING:
    from shared.monitoring.otel import Tracing


def load_tracing(settings: Settings, service: str) -> "Tracing | None":
    """None unless an endpoint is set. Raises SettingsError."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return None
    try:
        from shared.monitoring.otel import Tracing  # noqa: PLC0415 — of an extra
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: traces need the extra: pip install -e '.[otel]'"
        ) from None
    return Tracing(endpoint, service, capture_content=settings.otel_capture_content)
