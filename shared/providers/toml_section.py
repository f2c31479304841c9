"""Defines what a section of `providers.toml` may contain: see `docs/providers.md`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.dialects.dialects import DIALECTS
from shared.providers.model_limits import ModelLimits
from shared.providers.provider_row import LimitHeaders, LimitsPer, ModelCase
from shared.setting_checks import header_text, http_url

MAX_MODEL_LENGTH = 256  # characters, as in a request
MAX_FALLBACKS = 5  # as in a request
MAX_FALLBACK_ROUTES = 10  # limit of the routes that an item may move to, with the routes of aliases
NAME = re.compile(r"[a-z0-9-]{1,64}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.1
_SET_BY_WORKERS = {  # headers that the HTTP client or the dialect sets
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
}
_SECRET_NAME = re.compile(
    r"auth|cookie|(^|[-_])(api)?[-_]?key$|password|secret|token", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    # the schemes of Authorization, and the prefixes of providers' keys
    r"(?i:bearer|basic)\s|\b(sk|pk|rk|gsk|xai|hf|nvapi|csk|pplx|fw|tgp|r8)[-_]\w{6}|\bAIza\w{6}"
    # or a long word of letters and digits
    r"|(?=\w*[0-9])(?=\w*[A-Za-z])\w{32}"
)


def too_many_fallbacks(count: int) -> str:
    """Returns the message for an alias or a request whose `count` fallbacks are too many."""
    return (
        f"with the fallbacks of their aliases, these are {count} fallbacks; {MAX_FALLBACK_ROUTES}"
        " are allowed"
    )


def _dialect(name: str) -> str:
    if name not in DIALECTS:
        raise ValueError(f"must be one of {', '.join(DIALECTS)}")
    return name


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            "must be the name of an environment variable that contains the key, such as GPU1_KEY:"
            " A-Z, 0-9 and _"
        )
    return name


def _base_url(url: str) -> str:
    url = http_url(url)
    if "@" in url:
        raise ValueError("must not contain credentials")
    return url


def _auth(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _SET_BY_WORKERS:
        raise ValueError("must be bearer, none, or the name of the header that carries the key")
    return name


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("must have names that HTTP allows: letters, digits and hyphens")
        if name.lower() in _SET_BY_WORKERS:
            raise ValueError(f"must not contain {name}: workers set it")
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            raise ValueError(
                f"must not contain a key: {name} looks like one. Set `auth` to the header's name,"
                " and put the key into the environment"
            )
        header_text(value)
    return headers


def _parameter(name: str) -> str:
    if name in {"model", "messages"}:
        raise ValueError("must not contain model or messages, which each request needs")
    return name


_Concurrency = Annotated[int, Field(ge=1, le=100_000)]
_Rate = Annotated[int, Field(ge=1, le=10**12)]
_Weight = Annotated[int, Field(ge=1, le=1000)]
_Name = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_LENGTH, pattern=r"\S")]


def _patterns(models: dict[str, Any]) -> dict[str, Any]:
    if len({pattern.lower() for pattern in models}) < len(models):
        raise ValueError("must not name a model twice; upper and lower case make no difference")
    return models


class ModelSection(BaseModel):
    """Holds one section `[providers.NAME.models."PATTERN"]`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_concurrent_requests: _Concurrency | None = None
    rpm: _Rate | None = None
    tpm: _Rate | None = None
    rpd: _Rate | None = None


class Section(BaseModel):
    """Holds one section `[providers.NAME]`.

    The defaults of the fields have no effect: `given` returns only the fields in the file.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    base_url: Annotated[str, AfterValidator(_base_url)] = ""
    dialect: Annotated[str, AfterValidator(_dialect)] = "openai"
    api_key_env: Annotated[str, AfterValidator(_variable)] = ""
    auth: Annotated[str, AfterValidator(_auth)] = "bearer"
    key_required: bool = False
    model_case: ModelCase = "exact"
    token_limit_param: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105
    unsupported: list[Annotated[str, AfterValidator(_parameter)]] = []
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 0
    limits_per: LimitsPer = "model"
    max_concurrent_requests: _Concurrency = 1
    adaptive: bool = False
    rpm: _Rate = 1
    tpm: _Rate = 1
    rpd: _Rate = 1
    weight: _Weight = 1
    limit_headers: LimitHeaders = "openai"
    reserves_output: bool = False
    counts_refused: bool = False
    models: Annotated[
        dict[_Name, ModelSection], Field(max_length=100), AfterValidator(_patterns)
    ] = {}

    def given(self) -> dict[str, Any]:
        """Returns the fields that the section sets, with the types that a row has."""
        given = self.model_dump(exclude_unset=True)
        if "unsupported" in given:
            given["unsupported"] = frozenset(given["unsupported"])
        if "models" in given:
            given["models"] = tuple(
                ModelLimits(pattern.lower(), **limits)
                for pattern, limits in given["models"].items()
            )
        return given


class DeploymentSection(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    provider: str
    model: _Name
    weight: _Weight | None = None


def _at_least_one(deployments: list[DeploymentSection]) -> list[DeploymentSection]:
    if not deployments:
        raise ValueError("must have at least one deployment")
    return deployments


class AliasSection(BaseModel):
    """Holds one section `[models.NAME]`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    deployments: Annotated[
        list[DeploymentSection], Field(max_length=100), AfterValidator(_at_least_one)
    ]
    fallbacks: Annotated[list[_Name], Field(max_length=MAX_FALLBACKS)] = []
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    content_filtered: bool = False
