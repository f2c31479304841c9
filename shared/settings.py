"""Reads the settings from the environment and from `.env`. The environment takes precedence.

`.env.example` describes each setting.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from shared import setting_checks
from shared.providers import PROVIDERS, Provider, variable
from shared.providers.provider_row import MAX_KEYS
from shared.queue.claims import INTERACTIVE_WEIGHT, OUTAGE_WAIT_S
from shared.queue.redis_keys import check_prefix

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 32,000 tokens are about 200 KB, 400 embeddings 12 MB

WORKER_MEMORY_BYTES = 512 * 1024 * 1024
MAX_QUEUE_BYTES = 2 * 1024 * 1024 * 1024


class SettingsError(Exception):
    """Settings are wrong. str(error) has a line for each wrong setting: variable and requirement.

    The text never repeats a value, because the value may be a secret.
    """


_UNSET_IF_BLANK = BeforeValidator(setting_checks.blank_is_unset)
_Concurrency = Annotated[int, Field(ge=1, le=100_000)]
_Rate = Annotated[int, Field(ge=1, le=10**12)]
_TimeoutSeconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
ENV_FILE = ".env"
_Read = TypeVar("_Read")
_CONFIG = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", hide_input_in_errors=True)


class ProviderSettings(BaseModel):
    """The settings of one provider.

    They come from environment variables that begin with the provider's name, for example
    `OPENROUTER_API_KEY`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: Annotated[
        Annotated[SecretStr, AfterValidator(setting_checks.key_text)] | None, _UNSET_IF_BLANK
    ] = None
    base_url: Annotated[
        Annotated[str, AfterValidator(setting_checks.http_url)] | None, _UNSET_IF_BLANK
    ] = None
    http_referer: Annotated[str, AfterValidator(setting_checks.header_text)] = (
        "http://localhost:8000"
    )
    max_concurrent_requests: Annotated[_Concurrency | None, _UNSET_IF_BLANK] = None
    timeout: Annotated[_TimeoutSeconds | None, _UNSET_IF_BLANK] = None
    rpm: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    tpm: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    rpd: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    adaptive: Annotated[bool | None, _UNSET_IF_BLANK] = None
    # The keys of `<NAME>_API_KEY_2` and further, by their numbers
    more_api_keys: dict[int, Annotated[SecretStr, AfterValidator(setting_checks.key_text)]] = {}

    @property
    def key(self) -> str | None:
        """Returns the first key in clear text."""
        return next(iter(self.keys.values()), None)

    @property
    def keys(self) -> dict[int, str]:
        """Returns all keys in clear text, by their numbers. `<NAME>_API_KEY` is number 1."""
        keys = {1: self.api_key} if self.api_key else {}
        keys |= self.more_api_keys
        return {number: key.get_secret_value().strip() for number, key in keys.items()}

    def with_key(self, key: str | None) -> "ProviderSettings":
        """Returns the same settings with one key, or with none."""
        api_key = None if key is None else SecretStr(key)
        return self.model_copy(update={"api_key": api_key, "more_api_keys": {}})


# The settings of a provider that are variables, such as OPENROUTER_TIMEOUT
PROVIDER_SETTINGS = tuple(name for name in ProviderSettings.model_fields if name != "more_api_keys")


class Settings(BaseSettings):
    """All settings except the settings of the providers."""

    model_config = _CONFIG

    redis_url: Annotated[
        Annotated[str, AfterValidator(setting_checks.redis_url)] | None, _UNSET_IF_BLANK
    ] = None
    data_dir: Path = Path.home() / ".llm-batch-orchestrator"
    key_prefix: Annotated[str, Field(min_length=1), AfterValidator(check_prefix)] = "orchestrator:"

    providers_file: Annotated[Path | None, _UNSET_IF_BLANK] = None
    default_provider: Annotated[str | None, _UNSET_IF_BLANK] = None

    max_concurrent_requests: _Concurrency = 10
    request_timeout: _TimeoutSeconds = 30
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
        Annotated[int, Field(ge=1, le=65_535)] | None, _UNSET_IF_BLANK
    ] = None
    dashboard: bool = True
    root_path: Annotated[
        Annotated[str, AfterValidator(setting_checks.root_path)] | None, _UNSET_IF_BLANK
    ] = None
    keep_alive_seconds: float = Field(default=75, gt=0, le=3600, allow_inf_nan=False)
    otel_exporter_otlp_endpoint: Annotated[
        Annotated[str, AfterValidator(setting_checks.http_url)] | None, _UNSET_IF_BLANK
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
        Annotated[SecretStr, AfterValidator(setting_checks.webhook_secret)] | None, _UNSET_IF_BLANK
    ] = None
    webhook_allow_private: bool = False


def load_settings() -> Settings:
    """Returns the settings. Raises SettingsError."""
    try:
        return _reading_env_file(Settings)
    except ValidationError as error:
        raise _settings_error(error) from None


def load_provider_settings(
    rows: Mapping[str, Provider] = PROVIDERS,
) -> dict[str, ProviderSettings]:
    """Returns the settings of each provider by the provider's name. Raises SettingsError."""
    found = variables()
    return {name: _provider_settings(row, found) for name, row in rows.items()}


def variables() -> dict[str, str | None]:
    """Returns all variables of the environment and of `.env`, by their names in lower case.

    Raises SettingsError.
    """

    def read() -> dict[str, str | None]:
        # A settings class per provider would read .env once per provider.
        file, environment = DotEnvSettingsSource(Settings), EnvSettingsSource(Settings)
        return {**file.env_vars, **environment.env_vars}

    return _reading_env_file(read)


def _reading_env_file(read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeError:
        reason = "the file must be UTF-8"
    raise SettingsError(f"{Path(ENV_FILE).resolve()}: {reason}")


def _provider_settings(row: Provider, found: Mapping[str, str | None]) -> ProviderSettings:
    names = {setting: variable(row.name, setting) for setting in PROVIDER_SETTINGS}
    keys = _keys(row, found)
    if 1 in keys:
        names["api_key"] = keys[1]
    values: dict[str, Any] = {
        setting: value
        for setting, name in names.items()
        if (value := found.get(name.lower())) is not None
    }
    more = {number: name for number, name in keys.items() if number > 1}
    if more:
        values["more_api_keys"] = {number: found[name.lower()] for number, name in more.items()}
    try:
        settings = ProviderSettings.model_validate(values)
    except ValidationError as error:
        raise _settings_error(error, names, more) from None
    _refuse_equal_keys(settings, keys)
    return settings


def _keys(row: Provider, found: Mapping[str, str | None]) -> dict[int, str]:
    """Returns the names of the variables with the keys of a provider, by the key's number."""
    keys = {}
    for number in range(1, MAX_KEYS + 1):
        for name in row.variables_of_key(number):
            if (found.get(name.lower()) or "").strip():
                keys[number] = name
                break
    return keys


def _refuse_equal_keys(settings: ProviderSettings, names: Mapping[int, str]) -> None:
    """Refuses a key that is given twice, because its limits would count twice."""
    seen: dict[str, str] = {}
    for number, key in settings.keys.items():
        if key in seen:
            raise SettingsError(f"{names[number]}: must differ from {seen[key]}")
        seen[key] = names[number]


_PREFIX = "Value error, "  # pydantic writes this before the text of a ValueError


def _settings_error(
    error: ValidationError,
    names: Mapping[str, str] | None = None,
    keys: Mapping[int, str] | None = None,
) -> SettingsError:
    """`names` has the variables of fields whose variable has another name than the field. `keys`
    has the variables of the further keys."""
    lines = []
    for detail in error.errors():
        field = str(detail["loc"][0])
        name = (names or {}).get(field, field.upper())
        if keys and field == "more_api_keys":
            name = keys[int(detail["loc"][1])]
        lines.append(f"{name}: {detail['msg'].removeprefix(_PREFIX)}")
    return SettingsError("\n".join(lines))
