"""Reads the environment and `.env`. The environment takes precedence."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

ENV_FILE = ".env"
ENV_FILE_CONFIG = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", hide_input_in_errors=True)
_Read = TypeVar("_Read")


class SettingsError(Exception):
    """Settings are wrong. str(error) has a line for each mistake.

    Each line names the variable, or the place in the file, and says what must be changed. The text
    never repeats a value, because the value may be a secret.
    """


class _Variables(BaseSettings):
    """Configures the sources that read the variables."""

    model_config = ENV_FILE_CONFIG


def variables() -> dict[str, str | None]:
    """Returns all variables of the environment and of `.env`, by their names in lower case.

    Raises SettingsError.
    """

    def read() -> dict[str, str | None]:
        # A settings class per provider would read .env once per provider.
        file, environment = DotEnvSettingsSource(_Variables), EnvSettingsSource(_Variables)
        return {**file.env_vars, **environment.env_vars}

    return reading_env_file(read)


def reading_env_file(read: Callable[[], _Read]) -> _Read:
    """Returns what `read` returns. Raises SettingsError if `.env` cannot be read."""
    try:
        return read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeError:
        reason = "the file must be UTF-8"
    raise SettingsError(f"{Path(ENV_FILE).resolve()}: {reason}")


_PREFIX = "Value error, "  # pydantic writes this before the text of a ValueError


def settings_error(
    error: ValidationError,
    names: Mapping[str, str] | None = None,
    keys: Mapping[int, str] | None = None,
) -> SettingsError:
    """Returns the error with a line for each wrong setting.

    names: the variables of fields whose variable is not the field's name in upper case.
    keys: the variables of a provider's further API keys, by the key's number.
    """
    lines = []
    for detail in error.errors():
        field = str(detail["loc"][0])
        name = (names or {}).get(field, field.upper())
        if keys and field == "more_api_keys":
            name = keys[int(detail["loc"][1])]
        lines.append(f"{name}: {detail['msg'].removeprefix(_PREFIX)}")
    return SettingsError("\n".join(lines))
