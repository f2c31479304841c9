"""Checks that each provider works as `docs/providers.md` shows it, against the simulator."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from support.documents import PROJECT, blocks
from support.in_process import running_api, running_worker
from support.stack import chat

from cli.simulator import Simulator
from shared.providers import PROVIDERS, variable
from shared.providers.toml_section import Section
from shared.settings import Settings, SettingsError
from shared.settings.providers import load_providers
from shared.settings.providers_file import read_providers_file

PAGE = PROJECT / "docs" / "providers.md"


class Shown(NamedTuple):
    """Is a row of the table of providers."""

    name: str
    model: str
    keys: str
    base_url: str
    timeout_s: float


def _shown() -> list[Shown]:
    cells = r"^\| [^|`]+ \| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| `([^`]+)` \| (\d+) s \|$"
    rows = re.findall(cells, PAGE.read_text(), re.MULTILINE)
    return [
        Shown(name, model, keys, url, float(timeout_s))
        for name, model, keys, url, timeout_s in rows
    ]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the shell's keys and any `.env`."""
    for row in PROVIDERS.values():
        for name in (*row.key_variables, variable(row.name, "base_url")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_table_has_every_provider() -> None:
    shown = {row.name: row for row in _shown()}

    assert shown == {
        name: Shown(
            name,
            shown[name].model,
            ("" if row.key_required else "optional: ")
            + " or ".join(f"`{variable}`" for variable in row.key_variables),
            row.base_url,
            row.timeout_s or Settings(_env_file=None).request_timeout,
        )
        for name, row in PROVIDERS.items()
    }


@pytest.mark.parametrize("shown", _shown(), ids=lambda shown: shown.name)
async def test_the_example_works(
    shown: Shown, simulator: Simulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is set up with the key variable and the base URL only."""
    row = PROVIDERS[shown.name]
    path = row.base_url.partition("://")[2].partition("/")[2]
    monkeypatch.setenv(variable(row.name, "base_url"), f"{simulator.url}/{path}")
    monkeypatch.setenv(re.findall(r"`(\w+)`", shown.keys)[-1], "the-key")
    providers = load_providers(settings)
    request = chat("hello", provider=row.name, model=shown.model)

    async with (
        running_api(settings, providers.catalogue) as api,
        running_worker(settings, providers),
    ):
        answer = await api.post("/batch", json={"requests": [request]})

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"]) == (None, "echo: hello")
    [(_, sent)] = simulator.last().items()
    assert sent["body"]["model"] == row.model_name(shown.model)
    # Gemini's OpenAI endpoint takes the key as the others do.
    header = {"azure": "api-key", "anthropic": "x-api-key"}.get(row.name, "authorization")
    assert sent["headers"][header].removeprefix("Bearer ") == "the-key"


def test_the_files_on_the_page_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text("\n".join(block.text for block in blocks(PAGE) if block.language == "toml"))

    file = read_providers_file(path, PROVIDERS)

    assert file.given.keys() == {"gpu1", "openai"}
    assert file.aliases.keys() == {"small", "fast", "cheap"}


def test_the_table_of_fields_is_complete() -> None:
    text = PAGE.read_text().partition("## More providers in a file\n")[2]
    section = text.partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", section, re.MULTILINE))

    assert shown.keys() == Section.model_fields.keys()
    general = {
        *("base_url", "api_key_env", "timeout_s", "max_concurrent_requests"),
        *("rpm", "tpm", "rpd", "models"),
    }
    for name in shown.keys() - general:
        default = Section.model_fields[name].default
        text = str(default).lower() if isinstance(default, bool) else f"`{default}`"
        assert shown[name] == text, name


def test_the_refusal_on_the_page_is_what_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = '[providers.gpu1]\nbase_url = "http://x"\nmax_concurent_requests = 1\n'
    Path("providers.toml").write_text(wrong)

    with pytest.raises(SettingsError) as caught:
        read_providers_file(Path("providers.toml"), PROVIDERS)

    assert f"      {caught.value}\n" in PAGE.read_text()
