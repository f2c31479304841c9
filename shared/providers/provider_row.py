"""Defines the row of a provider: everything in which providers of one dialect differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.providers.model_limits import ModelLimits

ModelCase = Literal["exact", "lower"]
LimitsPer = Literal["account", "model"]
# A provider announces its rate limits in the headers of one of these vendors: see
# `worker.providers.announced_limits`
LimitHeaders = Literal["openai", "anthropic", "groq", "cerebras", "fireworks", "none"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Describes a provider.

    name: also the name of the provider's lane, and the prefix of its environment variables.
    base_url: `{…}` in the URL stands for a part that only the user knows. Then the variable
        `<NAME>_BASE_URL` must be set.
    dialect: a key of `shared.dialects.dialects.DIALECTS`.
    api_key_env: a variable with the API key, which is used if `<NAME>_API_KEY` is not set; or "".
    auth: `bearer`, `none`, or the name of the header that carries the key.
    key_required: whether the provider can be used only with a key.
    enabled: whether the provider is used although neither a key nor a base URL is set for it.
    model_case: `lower` if the provider gets the names of models in lower case; `exact` if it gets
        the names as the client wrote them.
    token_limit_param: name of the field that limits the tokens of a native request's answer:
        `max_tokens` or `max_completion_tokens`.
    unsupported: fields that the provider refuses. They are left out of native and translated
        requests.
    headers: headers of every call. `{http_referer}` stands for the provider's setting
        `http_referer`.
    timeout_s: time limit of a call; None for the general setting, `REQUEST_TIMEOUT`.
    limits_per: whether the provider counts its rate limits per account or per model.
    max_concurrent_requests: limit of running calls; None for the general setting,
        `MAX_CONCURRENT_REQUESTS`.
    adaptive: whether the number of running calls adapts below that limit.
    rpm, tpm, rpd: requests and tokens a minute, and requests a day, of each model or of the
        account, as `limits_per` says; None if there is no such limit.
    weight: share of the provider among the deployments of an alias, unless the alias sets it.
    limit_headers: the headers in which the provider announces its limits.
    reserves_output: whether the provider counts the token limit of a request before the call.
    counts_refused: whether the provider counts the calls that it refuses.
    models: limits of single models, in the order of `providers.toml`. They apply in addition to
        the limits of the provider.
    check_path: path of a GET that shows whether the key is accepted; "" for the dialect's listing
        of models.
    fills_defaults: whether native requests get the documented defaults of `temperature` and
        `max_tokens`. If not, an absent field is not sent.
    """

    name: str
    base_url: str
    dialect: str = "openai"
    api_key_env: str = ""
    auth: str = "bearer"
    key_required: bool = True
    enabled: bool = False
    model_case: ModelCase = "exact"
    token_limit_param: str = "max_tokens"  # noqa: S105 — not a secret
    unsupported: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    limits_per: LimitsPer = "model"
    max_concurrent_requests: int | None = None
    adaptive: bool = False
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    weight: int = 1
    limit_headers: LimitHeaders = "openai"
    reserves_output: bool = False
    counts_refused: bool = False
    models: tuple[ModelLimits, ...] = ()
    check_path: str = ""
    fills_defaults: bool = False

    def model_name(self, name: str) -> str:
        """Returns the name of a model as the provider gets it."""
        return name.lower() if self.model_case == "lower" else name

    @property
    def has_base_url(self) -> bool:
        """Returns whether the base URL is complete."""
        return "{" not in self.base_url

    @property
    def needs(self) -> str:
        """Returns the variables that must be set before the provider can be used: `A`, or `A and
        B`."""
        key, base_url = variable(self.name, "api_key"), variable(self.name, "base_url")
        if not self.has_base_url:
            return f"{base_url} and {key}"
        return key if self.key_required else base_url

    @property
    def key_variables(self) -> tuple[str, ...]:
        """Returns the variables that may contain the first key. The first variable that is set is
        used."""
        return self.variables_of_key(1)

    def variables_of_key(self, number: int) -> tuple[str, ...]:
        """Returns the variables that may contain the key with a number. Numbers start at 1."""
        ending = "" if number == 1 else f"_{number}"
        names = (variable(self.name, "api_key"), self.api_key_env)
        return tuple(name + ending for name in names if name)


MAX_KEYS = 99


def account(provider: str, key: int) -> str:
    """Returns the name of the account of a key: `openai` for the first, then `openai#2`."""
    return provider if key == 1 else f"{provider}#{key}"


def provider_of(account: str) -> str:
    return account.partition("#")[0]


def variable(provider: str, setting: str) -> str:
    """Returns the name of a provider's environment variable, such as `OPENROUTER_API_KEY`."""
    return f"{provider}_{setting}".replace("-", "_").upper()
