"""Reads the settings from the environment and from `.env`. The environment takes precedence.

`.env.example` describes each setting.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

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
from redis.asyncio.connection import parse_url

from shared.providers import PROVIDERS, Provider, variable
from shared.providers.row import MAX_KEYS
from shared.queue.claims import INTERACTIVE_WEIGHT, OUTAGE_WAIT_S
from shared.queue.keys import check_prefix
from shared.redis import sentinel

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 32,000 tokens are about 200 KB, 400 embeddings 12 MB

WORKER_MEMORY_BYTES = 512 * 1024 * 1024
MAX_QUEUE_BYTES = 2 * 1024 * 1024 * 1024


class SettingsError(Exception):
    """Settings are wrong. str(error) has a line for each wrong setting: variable and requirement.

    The text never repeats a value, because the value may be a secret.
    """


def http_url(url: str) -> str:
    """Returns `url` without a slash at its end, if calls can be made to it. Raises ValueError."""
    parts = urlsplit(url)
    if set(header_text(url)) & set(" {}"):
        raise ValueError("must not contain spaces or braces")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must start with http:// or https:// and contain a host")
    if parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("must not contain port 0, a query or a fragment")
    return url.rstrip("/")


def _root_path(path: str) -> str:
    path = path.rstrip("/")
    if path and (not path.startswith("/") or " " in header_text(path) or {"?", "#"} & {*path}):
        raise ValueError("must start with / and contain no space, ? or #")
    return path


def header_text(text: str) -> str:
    """Returns `text` if an HTTP header may contain it (RFC 9110, 5.5). Raises ValueError."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must contain only printable ASCII characters")
    return text


def _key(key: SecretStr) -> SecretStr:
    header_text(key.get_secret_value())
    return key


_REDIS_FORMS = (
    "must be redis://host, rediss://host, unix:///path or redis+sentinel://host,host/master"
)


def _redis_url(url: str) -> str:
    behind_sentinel = url.startswith(f"{sentinel.SCHEME}://")
    try:
        (sentinel.parse_sentinel_url if behind_sentinel else parse_url)(url)
    except ValueError:
        # The text of the caught error may repeat a part of the URL, such as its password.
        raise ValueError(f"{_REDIS_FORMS}; a part of the URL is wrong") from None
    parts = urlsplit(url)
    if not (parts.hostname or parts.path):
        raise ValueError(_REDIS_FORMS)
    return url


def _blank_is_unset(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key's owner and digest, so that a reader of the settings cannot use the key."""

    owner: str
    sha256: bytes


def _api_keys(text: object) -> object:
    if not isinstance(text, str):
        return text
    keys = []
    for number, entry in enumerate(text.replace(",", " ").split(), 1):
        owner, _, digest = entry.partition(":")
        if not OWNER.fullmatch(owner):
            raise ValueError(
                f"entry {number}: the name must be 1 to 64 of the characters A-Z a-z 0-9 _ . -"
            )
        if not _SHA256.fullmatch(digest):
            raise ValueError(
                f"entry {number}: must be NAME:DIGEST; DIGEST is the key's SHA-256 in 64 hex digits"
            )
        keys.append(ApiKey(owner, bytes.fromhex(digest)))
    return tuple(keys)


def _hosts(text: object) -> object:
    if not isinstance(text, str):
        return text
    hosts = [entry.lower().strip("[]").rstrip(".") for entry in text.replace(",", " ").split()]
    for number, host in enumerate(hosts, 1):
        if not (_HOST.fullmatch(host) or _is_address(host)):
            raise ValueError(
                f"entry {number}: must be a name, an address, or *. and a name, without a scheme"
                " and a port, for example llm.example.com"
            )
    return tuple(hosts)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().removeprefix("whsec_")
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise ValueError("must be whsec_ followed by 24 to 64 bytes in base64")
    return secret


_UNSET_IF_BLANK = BeforeValidator(_blank_is_unset)
_Concurrency = Annotated[int, Field(ge=1, le=100_000)]
_Rate = Annotated[int, Field(ge=1, le=10**12)]
_TimeoutSeconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64  # limits that Standard Webhooks prescribes
OWNER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
ENV_FILE = ".env"
_Read = TypeVar("_Read")
_CONFIG = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", hide_input_in_errors=True)


class ProviderSettings(BaseModel):
    """The settings of one provider.

    They come from environment variables that begin with the provider's name, for example
    `OPENROUTER_API_KEY`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: Annotated[Annotated[SecretStr, AfterValidator(_key)] | None, _UNSET_IF_BLANK] = None
    base_url: Annotated[Annotated[str, AfterValidator(http_url)] | None, _UNSET_IF_BLANK] = None
    http_referer: Annotated[str, AfterValidator(header_text)] = "http://localhost:8000"
    max_concurrent_requests: Annotated[_Concurrency | None, _UNSET_IF_BLANK] = None
    timeout: Annotated[_TimeoutSeconds | None, _UNSET_IF_BLANK] = None
    rpm: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    tpm: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    rpd: Annotated[_Rate | None, _UNSET_IF_BLANK] = None
    adaptive: Annotated[bool | None, _UNSET_IF_BLANK] = None
    # The keys of `<NAME>_API_KEY_2` and further, by their numbers
    more_api_keys: dict[int, Annotated[SecretStr, AfterValidator(_key)]] = {}

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

    redis_url: Annotated[Annotated[str, AfterValidator(_redis_url)] | None, _UNSET_IF_BLANK] = None
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
    root_path: Annotated[Annotated[str, AfterValidator(_root_path)] | None, _UNSET_IF_BLANK] = None
    keep_alive_seconds: float = Field(default=75, gt=0, le=3600, allow_inf_nan=False)
    otel_exporter_otlp_endpoint: Annotated[
        Annotated[str, AfterValidator(http_url)] | None, _UNSET_IF_BLANK
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

    api_keys: Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_api_keys)] = ()
    allow_keyless: bool = False
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)] = ()
    webhook_secret: Annotated[
        Annotated[SecretStr, AfterValidator(_webhook_secret)] | None, _UNSET_IF_BLANK
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
    """Returns the variables that contain the keys of a provider, by the number of the key."""
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
