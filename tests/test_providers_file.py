"""Tests which fields `providers.toml` may contain."""

import tomllib
from pathlib import Path

import pytest
from support.documents import PROJECT
from support.providers_file import GPU1, Read, reader

from shared.providers import PROVIDERS, Alias, Deployment, Provider
from shared.providers.toml_lines import line_of, lines_of
from shared.providers.toml_section import AliasSection, Section
from shared.settings.providers_file import read_providers_file


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path)


def test_the_smallest_row(read: Read) -> None:
    file = read(GPU1)

    assert file.rows["gpu1"] == Provider(
        "gpu1", "http://gpu1:8000/v1", "openai", key_required=False, fills_defaults=False
    )
    assert file.rows == {**PROVIDERS, "gpu1": file.rows["gpu1"]}
    assert file.given == {"gpu1": frozenset({"base_url"})}


def test_a_row_with_every_field(read: Read) -> None:
    file = read(
        """
        [providers.my-proxy]
        base_url = "https://proxy.test/v1/"
        dialect = "ollama"
        api_key_env = "PROXY_KEY"
        auth = "X-Proxy-Key"
        key_required = true
        model_case = "lower"
        token_limit_param = "max_completion_tokens"
        unsupported = ["seed", "logprobs"]
        headers = { X-Team = "research", anthropic-beta = "context-1m-2025-08-07" }
        timeout_s = 120
        limits_per = "account"
        max_concurrent_requests = 64
        """
    )

    assert file.rows["my-proxy"] == Provider(
        name="my-proxy",
        base_url="https://proxy.test/v1",
        dialect="ollama",
        api_key_env="PROXY_KEY",
        auth="X-Proxy-Key",
        key_required=True,
        model_case="lower",
        token_limit_param="max_completion_tokens",  # noqa: S106 — not a secret
        unsupported=frozenset({"seed", "logprobs"}),
        headers={"X-Team": "research", "anthropic-beta": "context-1m-2025-08-07"},
        timeout_s=120,
        limits_per="account",
        max_concurrent_requests=64,
    )


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "ollama"])
def test_a_new_row_is_called_as_its_dialect_demands(read: Read, dialect: str) -> None:
    row = read(GPU1 + f'dialect = "{dialect}"\n').rows["gpu1"]
    built_in = PROVIDERS[dialect]

    assert (row.auth, row.headers) == (built_in.auth, built_in.headers)
    assert not row.key_required


def test_a_section_for_a_built_in_row_changes_only_what_it_names(read: Read) -> None:
    rows = read("[providers.openrouter]\ntimeout_s = 90\n").rows

    assert rows["openrouter"].timeout_s == 90
    assert rows == {**PROVIDERS, "openrouter": rows["openrouter"]}
    unchanged = {"headers", "key_required", "model_case", "fills_defaults", "base_url"}
    for name in unchanged:
        assert getattr(rows["openrouter"], name) == getattr(PROVIDERS["openrouter"], name)


def test_aliases(read: Read) -> None:
    file = read(
        GPU1
        + """
        [models.fast]
        deployments = [{ provider = "gpu1", model = "Qwen/Qwen3-8B" }]
        [models."GPT-4o"]
        deployments = [{ provider = "openrouter", model = "openai/gpt-x" }]
        [models."org/model"]
        deployments = [{ provider = "openai", model = "gpt-5-mini" }]
        """
    )

    assert file.aliases == {
        "fast": Alias((Deployment("gpu1", "Qwen/Qwen3-8B"),)),
        "gpt-4o": Alias((Deployment("openrouter", "openai/gpt-x"),)),
        "org/model": Alias((Deployment("openai", "gpt-5-mini"),)),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "[providers]\n[models]\n", "\ufeff" + GPU1])
def test_files_with_nothing_wrong(read: Read, text: str) -> None:
    assert read(text).rows.items() >= PROVIDERS.items()


def test_the_lines_of_a_document() -> None:
    lines = lines_of(
        "# a comment with a line separator\u2028b = 1\r\n"
        "a.b = 1\n"
        "[t.'u v']\n"
        'text = """\n[not.a.table]\nnor = "a key"\n"""\n'
        "list = [\n  1, # one ]\n  { x = 2 },\n]\n"
        "inline = { x = 1, y.z = 2 }\n"
        "  [t.w] # a comment\n"
        "last = ']['\n"
    )

    assert {".".join(path): line for path, line in lines.items()} == {
        "": 1,
        "a": 2,
        "a.b": 2,
        "t": 3,
        "t.u v": 3,
        "t.u v.text": 4,
        "t.u v.list": 8,
        "t.u v.inline": 12,
        "t.u v.inline.x": 12,
        "t.u v.inline.y": 12,
        "t.u v.inline.y.z": 12,
        "t.w": 13,
        "t.w.last": 14,
    }
    assert line_of(("t", "u v", "list", 1, "x"), lines) == 8
    assert line_of(("t", "missing"), lines) == 3


def test_the_sample_is_valid_and_shows_every_field(tmp_path: Path) -> None:
    """Reads the sample twice: as it is, and with its commented lines."""
    sample = PROJECT / "providers.toml.example"
    path = tmp_path / "providers.toml"
    path.write_text(
        "".join(_without_comment(line) for line in sample.read_text().splitlines(keepends=True))
    )

    assert read_providers_file(sample, PROVIDERS).rows == PROVIDERS
    file = read_providers_file(path, PROVIDERS)
    assert set().union(*file.given.values()) == Section.model_fields.keys()
    shown = {name for alias in tomllib.loads(path.read_text())["models"].values() for name in alias}
    assert shown == AliasSection.model_fields.keys()


def _without_comment(line: str) -> str:
    """Returns a line of TOML that begins with `#` and no space without the `#`."""
    return line[1:] if line.startswith("#") and not line.startswith(("# ", "#\n")) else line
