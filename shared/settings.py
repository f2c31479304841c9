"""Settings from the environment and `.env`; the names are the ones the README lists."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio.connection import parse_url

from shared import sentinel
from shared.providers import PROVIDERS


class SettingsError(Exception):
    """A setting is wrong; the text names its variable and never repeats its value."""


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if " " in _header_text(url):
        raise ValueError("should have no spaces")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("should be http://… or https://…")
    if parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("should have no port 0, no query and no fragment")
    return url.rstrip("/")


def _header_text(text: str) -> str:
    """What an HTTP header may hold (RFC 9110, 5.5)."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("should be printable ASCII")
    return text


def _key(key: SecretStr) -> SecretStr:
    _header_text(key.get_secret_value())
    return key


_REDIS_FORMS = (
    "should be redis://host, rediss://host, unix://path or redis+sentinel://host,host/master"
)


def _redis_url(url: str) -> str:
    behind_sentinel = url.startswith(f"{sentinel.SCHEME}://")
    try:
        (sentinel.parse_sentinel_url if behind_sentinel else parse_url)(url)
    except ValueError:
        # The error's own text would repeat the part.
        raise ValueError(f"{_REDIS_FORMS}, without mistakes in its parts") from None
    parts = urlsplit(url)
    if not (parts.hostname or parts.path):
        raise ValueError(_REDIS_FORMS)
    return url


def _blank_is_unset(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


_UNSET_IF_BLANK = BeforeValidator(_blank_is_unset)
_Concurrency = Annotated[int, Field(ge=1, le=100_000)]
_CONFIG = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)


class ProviderSettings(BaseSettings):
    """One provider's, read with its name as prefix: `OPENROUTER_API_KEY`."""

    model_config = _CONFIG

    api_key: Annotated[Annotated[SecretStr, AfterValidator(_key)] | None, _UNSET_IF_BLANK] = None
    base_url: Annotated[Annotated[str, AfterValidator(_http_url)] | None, _UNSET_IF_BLANK] = None
    http_referer: Annotated[str, AfterValidator(_header_text)] = "http://localhost:8000"
    max_concurrent_requests: Annotated[_Concurrency | None, _UNSET_IF_BLANK] = None


class Settings(BaseSettings):
    model_config = _CONFIG

    redis_url: Annotated[Annotated[str, AfterValidator(_redis_url)] | None, _UNSET_IF_BLANK] = None
    data_dir: Path = Path.home() / ".llm-batch-orchestrator"
    key_prefix: str = Field(default="orchestrator:", min_length=1)

    max_concurrent_requests: _Concurrency = 10
    request_timeout: float = Field(default=30, gt=0, le=3600, allow_inf_nan=False)
    max_retries: int = Field(default=3, ge=0, le=100)
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
    ] = "INFO"

    worker_max_jobs: int = Field(default=512, ge=len(PROVIDERS), le=100_000)
    lease_seconds: float = Field(default=15, ge=1, le=3600, allow_inf_nan=False)
    shutdown_grace_seconds: float = Field(default=35, ge=0, le=3600, allow_inf_nan=False)

    result_ttl_seconds: int = Field(default=86_400, ge=1, le=10 * 365 * 86_400)
    sync_wait_seconds: float = Field(default=300, ge=0, le=86_400, allow_inf_nan=False)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    max_queue_depth: int = Field(default=100_000, ge=1)
    max_open_requests: int = Field(default=1000, ge=1)


def load_settings() -> Settings:
    """Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        raise _settings_error(error) from None


def load_provider_settings() -> dict[str, ProviderSettings]:
    """By provider. Raises SettingsError."""
    settings = {}
    for name in PROVIDERS:
        prefix = f"{name.upper()}_"
        try:
            settings[name] = ProviderSettings(_env_prefix=prefix)
        except ValidationError as error:
            raise _settings_error(error, prefix) from None
    return settings


def _settings_error(error: ValidationError, prefix: str = "") -> SettingsError:
    return SettingsError(
        "\n".join(
            f"{prefix}{detail['loc'][0]}".upper() + f": {detail['msg']}"
            for detail in error.errors()
        )
    )
