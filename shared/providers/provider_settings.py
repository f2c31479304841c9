"""Defines the settings of one provider."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from shared import setting_checks
from shared.setting_checks import UNSET_IF_BLANK, Concurrency, TimeoutSeconds

_Rate = Annotated[int, Field(ge=1, le=10**12)]


class ProviderSettings(BaseModel):
    """Holds the settings of one provider.

    They come from environment variables that begin with the provider's name, for example
    `OPENROUTER_API_KEY`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: Annotated[
        Annotated[SecretStr, AfterValidator(setting_checks.key_text)] | None, UNSET_IF_BLANK
    ] = None
    base_url: Annotated[
        Annotated[str, AfterValidator(setting_checks.http_url)] | None, UNSET_IF_BLANK
    ] = None
    http_referer: Annotated[str, AfterValidator(setting_checks.header_text)] = (
        "http://localhost:8000"
    )
    max_concurrent_requests: Annotated[Concurrency | None, UNSET_IF_BLANK] = None
    timeout: Annotated[TimeoutSeconds | None, UNSET_IF_BLANK] = None
    rpm: Annotated[_Rate | None, UNSET_IF_BLANK] = None
    tpm: Annotated[_Rate | None, UNSET_IF_BLANK] = None
    rpd: Annotated[_Rate | None, UNSET_IF_BLANK] = None
    adaptive: Annotated[bool | None, UNSET_IF_BLANK] = None
    # The keys in `<NAME>_API_KEY_2` and the variables after it, by their numbers
    more_api_keys: dict[int, Annotated[SecretStr, AfterValidator(setting_checks.key_text)]] = {}

    @property
    def key(self) -> str | None:
        """Returns the first key in clear text; None if no key is set."""
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


# The names of the settings that each have one variable, such as OPENROUTER_TIMEOUT
PROVIDER_SETTINGS = tuple(name for name in ProviderSettings.model_fields if name != "more_api_keys")
