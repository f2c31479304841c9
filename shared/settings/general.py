"""Defines all settings except the settings of the providers. `.env.example` describes each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode

from shared import setting_checks
from shared.queue.redis_keys import check_prefix
from shared.queue.setting_defaults import INTERACTIVE_WEIGHT, OUTAGE_WAIT_S
from shared.setting_checks import UNSET_IF_BLANK, Concurrency, TimeoutSeconds
from shared.settings.environment import ENV_FILE_CONFIG, reading_env_file, settings_error

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 32,000 tokens are about 200 KB, 400 embeddings 12 MB

WORKER_MEMORY_BYTES = 512 * 1024 * 1024
MAX_QUEUE_BYTES = 2 * 1024 * 1024 * 1024


class Settings(BaseSettings):
    """Holds all settings except the settings of the providers."""

    model_config = ENV_FILE_CONFIG

    redis_url: Annotated[
        Annotated[str, AfterValidator(setting_checks.redis_url)] | None, UNSET_IF_BLANK
    ] = None
    data_dir: Path = Path.home() / ".llm-batch-orchestrator"
    key_prefix: Annotated[str, Field(min_length=1), AfterValidator(check_prefix)] = "orchestrator:"

    providers_file: Annotated[Path | None, UNSET_IF_BLANK] = None
    default_provider: Annotated[str | None, UNSET_IF_BLANK] = None

    max_concurrent_requests: Concurrency = 10
    request_timeout: TimeoutSeconds = 30
    max_retries: int = Field(default=3, ge=0, le=100)
    outage_wait_seconds: float = Field(
        default=OUTAGE_WAIT_S, ge=0, le=30 * 86_400, allow_inf_nan=False
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
    ] = "INFO"

    worker_max_jobs: int = Field(default=512, ge=3, le=100_000)
    worker_memory_bytes: int = Field(default=WORKER_MEMORY_BYTES, ge=64 * 1024 * 1024)
    max_answer_bytes: int = Field(default=MAX_ANSWER_BYTES, ge=1024, le=256 * 1024 * 1024)
    lease_seconds: float = Field(default=15, ge=1, le=3600, allow_inf_nan=False)
    shutdown_grace_seconds: float = Field(default=35, ge=0, le=3600, allow_inf_nan=False)

    worker_metrics_port: Annotated[
        Annotated[int, Field(ge=1, le=65_535)] | None, UNSET_IF_BLANK
    ] = None
    dashboard: bool = True
    root_path: Annotated[
        Annotated[str, AfterValidator(setting_checks.root_path)] | None, UNSET_IF_BLANK
    ] = None
    keep_alive_seconds: float = Field(default=75, gt=0, le=3600, allow_inf_nan=False)
    otel_exporter_otlp_endpoint: Annotated[
        Annotated[str, AfterValidator(setting_checks.http_url)] | None, UNSET_IF_BLANK
    ] = None
    otel_capture_content: bool = False

    result_ttl_seconds: int = Field(default=86_400, ge=1, le=10 * 365 * 86_400)
    sync_wait_seconds: float = Field(default=300, ge=0, le=86_400, allow_inf_nan=False)
    interactive_weight: int = Field(default=INTERACTIVE_WEIGHT, ge=1, le=1000)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    max_queue_depth: int = Field(default=1_000_000, ge=1)
    max_queue_bytes: int = Field(default=MAX_QUEUE_BYTES, ge=1024)
    api_memory_bytes: int = Field(default=512 * 1024 * 1024, ge=64 * 1024 * 1024)
    max_open_requests: int = Field(default=2000, ge=1)
    max_job_items: int = Field(default=100_000, ge=1, le=1_000_000)
    max_line_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    max_job_bytes: int = Field(default=1024 * 1024 * 1024, ge=1)
    file_ttl_seconds: int = Field(default=7 * 86_400, ge=1, le=10 * 365 * 86_400)
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_stored_file_bytes: int = Field(default=2 * 1024 * 1024 * 1024, ge=1)
    idempotency_ttl_seconds: int = Field(default=86_400, ge=1, le=10 * 365 * 86_400)
    cancel_on_disconnect: bool = True
    disconnect_grace_seconds: float = Field(default=30, ge=0, le=3600, allow_inf_nan=False)

    api_keys: Annotated[
        tuple[setting_checks.ApiKey, ...], NoDecode, BeforeValidator(setting_checks.api_keys)
    ] = ()
    allow_keyless: bool = False
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(setting_checks.hosts)] = ()
    webhook_secret: Annotated[
        Annotated[SecretStr, AfterValidator(setting_checks.webhook_secret)] | None, UNSET_IF_BLANK
    ] = None
    webhook_allow_private: bool = False


def load_settings() -> Settings:
    """Returns the settings. Raises SettingsError."""
    try:
        return reading_env_file(Settings)
    except ValidationError as error:
        raise settings_error(error) from None
