"""Tests how key pools, limits of models, deployments and fallbacks are read and checked."""

from pathlib import Path

import pytest
from support.providers import combined

from shared.providers import PROVIDERS, Alias, Deployment, ModelLimits, Provider
from shared.providers.model_limits import limits_of
from shared.settings import (
    ProviderSettings,
    Settings,
    SettingsError,
    load_provider_settings,
)
from shared.settings.providers import load_providers
from shared.settings.providers_file import ProvidersFile, read_providers_file
from shared.settings.unknown_settings import unknown_settings
from worker.providers.endpoint import endpoints


@pytest.fixture(autouse=True)
def no_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str) -> ProvidersFile:
    Path("providers.toml").write_text(text)
    return read_providers_file(Path("providers.toml"), PROVIDERS)


def complaints(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return [line.removeprefix("providers.toml, ") for line in str(caught.value).splitlines()]


def test_the_limits_of_a_provider_and_of_its_models() -> None:
    row = read(
        """
        [providers.gpu1]
        base_url = "http://gpu1:8000/v1"
        adaptive = true
        rpm = 600
        tpm = 90_000
        rpd = 10_000
        weight = 3
        limit_headers = "none"
        reserves_output = true
        counts_refused = true
        [providers.gpu1.models."Qwen/*"]
        max_concurrent_requests = 8
        [providers.gpu1.models."Qwen/Qwen3-8B"]
        rpm = 60
        tpm = 9_000
        rpd = 1_000
        """
    ).rows["gpu1"]

    assert row == Provider(
        "gpu1",
        "http://gpu1:8000/v1",
        key_required=False,
        adaptive=True,
        rpm=600,
        tpm=90_000,
        rpd=10_000,
        weight=3,
        limit_headers="none",
        reserves_output=True,
        counts_refused=True,
        models=(
            ModelLimits("qwen/*", max_concurrent_requests=8),
            ModelLimits("qwen/qwen3-8b", rpm=60, tpm=9_000, rpd=1_000),
        ),
    )


@pytest.mark.parametrize(
    ("model", "rpm"), [("gpt-5", 3), ("GPT-5-mini", 1), ("gpt-5-nano", 1), ("o4", 2), ("", 2)]
)
def test_the_limits_of_a_models_name_count_before_those_of_the_first_glob(
    model: str, rpm: int
) -> None:
    models = [
        ModelLimits("gpt-5-*", rpm=1),
        ModelLimits("*", rpm=2),
        ModelLimits("gpt-5", rpm=3),
    ]

    found = limits_of(models, model)

    assert found is not None
    assert found.rpm == rpm
    assert limits_of(models[:1], "o4") is None


def test_a_new_provider_announces_its_limits_as_its_dialect_does() -> None:
    text = '[providers.proxy]\nbase_url = "http://proxy"\ndialect = "anthropic"\n'

    row = read(text).rows["proxy"]

    assert (row.limit_headers, row.reserves_output) == ("anthropic", False)


def test_an_alias_with_deployments_and_fallbacks() -> None:
    file = read(
        """
        [providers.azure]
        weight = 2
        [models.Fast]
        deployments = [
          { provider = "openai", model = "gpt-5-mini", weight = 3 },
          { provider = "azure", model = "mini-eu" },
        ]
        fallbacks = ["openrouter/google/gemini-3-flash", "SLOW"]
        after_s = 5
        content_filtered = true
        [models.slow]
        deployments = [{ provider = "ollama", model = "llama3.2:3b" }]
        """
    )

    assert file.aliases == {
        "fast": Alias(
            (Deployment("openai", "gpt-5-mini", 3), Deployment("azure", "mini-eu", 2)),
            (Deployment("openrouter", "google/gemini-3-flash"), "slow"),
            after_s=5,
            content_filtered=True,
        ),
        "slow": Alias((Deployment("ollama", "llama3.2:3b"),)),
    }


OPENAI = '{ provider = "openai", model = "m" }'
AZURE = '{ provider = "azure", model = "M" }'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            f"[models.x]\ndeployments = [{OPENAI},\n  {OPENAI}]\n",
            "line 2: models.x.deployments: a deployment appears twice; use weight instead",
        ),
        (
            f'[models.x]\ndeployments = [\n  {OPENAI},\n  {{ provider = "azur", model = "m" }}]\n',
            "line 2: models.x.deployments: no provider has this name; did you mean azure?",
        ),
        (
            '[models.x]\ndeployments = [{ provider = "openai", model = "m", weight = 0 }]\n',
            ("line 2: models.x.deployments.0.weight: must be greater than or equal to 1"),
        ),
        (
            f'[models.x]\ndeployments = [{OPENAI}]\nfallbacks = ["opnai/m"]\n',
            (
                "line 3: models.x.fallbacks.0: must be PROVIDER/MODEL or an alias;"
                " did you mean openai?"
            ),
        ),
        (
            f'[models.x]\ndeployments = [{OPENAI}]\nfallbacks = ["openai"]\n',
            (
                "line 3: models.x.fallbacks.0: must be PROVIDER/MODEL or an alias;"
                " did you mean openai?"
            ),
        ),
        (
            f'[models.x]\ndeployments = [{AZURE}]\nfallbacks = ["azure/m"]\n',
            "line 3: models.x.fallbacks.0: appears twice among the deployments and fallbacks",
        ),
        (
            f'[models.x]\ndeployments = [{AZURE}]\nfallbacks = ["openai/a", "openai/A"]\n',
            "line 3: models.x.fallbacks.1: appears twice among the deployments and fallbacks",
        ),
        (
            f"[models.x]\ndeployments = [{OPENAI}]\nfallbacks = {['openai/a'] * 6}\n",
            ("line 3: models.x.fallbacks: must have at most 5 items after validation, not 6"),
        ),
        (
            f"[models.x]\ndeployments = [{OPENAI}]\nafter_s = -1\n",
            "line 3: models.x.after_s: must be greater than or equal to 0",
        ),
        (
            f'[models.x]\ndeployments = [{OPENAI}]\nfallbacks = ["X"]\n',
            "line 3: models.x.fallbacks: the fallbacks lead back to the alias: x → x",
        ),
        (
            '[providers.openai.models."gpt-5"]\nrmp = 1\n',
            "line 2: providers.openai.models.gpt-5.rmp: is unknown; did you mean rpm?",
        ),
        (
            '[providers.openai.models."gpt-5"]\nrpm = 0\n',
            "line 2: providers.openai.models.gpt-5.rpm: must be greater than or equal to 1",
        ),
        (
            "[providers.openai.models.m]\nrpm = 1\n[providers.openai.models.M]\nrpm = 1\n",
            (
                "line 1: providers.openai.models:"
                " must not name a model twice; upper and lower case make no difference"
            ),
        ),
        (
            '[providers.openai]\nlimit_headers = "x"\n',
            (
                "line 2: providers.openai.limit_headers: must be 'openai', 'anthropic', 'groq',"
                " 'cerebras', 'fireworks' or 'none'"
            ),
        ),
    ],
)
def test_a_wrong_file(text: str, complaint: str) -> None:
    assert complaints(text) == [complaint]


def alias(name: str, *fallbacks: str) -> str:
    target = f'{{ provider = "openai", model = "{name}" }}'
    return f"[models.{name}]\ndeployments = [{target}]\nfallbacks = {list(fallbacks)}\n"


def test_too_many_fallbacks_of_fallbacks() -> None:
    five = [f"openai/{number}" for number in range(5)]
    others = alias("b", *five) + alias("c", "openai/0", *(f"azure/{number}" for number in range(4)))

    [complaint] = complaints(alias("a", "b", "c") + others)  # twelve, of which two are equal

    assert complaint == (
        "line 3: models.a.fallbacks: with the fallbacks of their aliases, these are 11 fallbacks;"
        " 10 are allowed"
    )


def test_fallbacks_that_go_round_in_a_circle() -> None:
    found = complaints(alias("a", "b") + alias("B", "d", "c") + alias("c", "A") + alias("d"))

    reason = "the fallbacks lead back to the alias"
    assert found == [
        f"line 3: models.a.fallbacks: {reason}: a → B → c → a",
        f"line 6: models.B.fallbacks: {reason}: B → c → a → B",
        f"line 9: models.c.fallbacks: {reason}: c → a → B → c",
    ]


def test_a_wrong_alias_is_the_only_complaint() -> None:
    text = '[models.x]\n[models.y]\ndeployments = [{ provider = "openai", model = "m" }]\n'

    assert complaints(text + 'fallbacks = ["x"]\n') == ["line 1: models.x: deployments is missing"]


def test_a_variable_takes_precedence_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("providers.toml").write_text(
        "[providers.openai]\nrpm = 1\ntpm = 2\nrpd = 3\nadaptive = true\n"
    )
    monkeypatch.setenv("OPENAI_RPM", "10")
    monkeypatch.setenv("OPENAI_RPD", "")
    monkeypatch.setenv("OPENAI_ADAPTIVE", "false")
    monkeypatch.setenv("GROQ_TPM", "20")

    rows = load_providers(Settings(providers_file=Path("providers.toml"))).catalogue.rows

    openai, groq = rows["openai"], rows["groq"]
    assert (openai.rpm, openai.tpm, openai.rpd, openai.adaptive) == (10, 2, 3, False)
    assert (groq.rpm, groq.tpm, groq.rpd, groq.adaptive) == (None, 20, None, False)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_a_wrong_rate_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENAI_RPM", value)

    with pytest.raises(SettingsError, match=r"^OPENAI_RPM: "):
        load_provider_settings()


def test_a_pool_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OPENAI_API_KEY": "key-one",
        "OPENAI_API_KEY_2": " key-two ",
        "OPENAI_API_KEY_3": "",
        "OPENAI_API_KEY_99": "key-99",
        "OPENAI_API_KEY_100": "key-100",
        "GOOGLE_API_KEY": "key-g",
        "GEMINI_API_KEY_2": "key-g2",
        "GOOGLE_API_KEY_2": "not this one",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_provider_settings()

    assert settings["openai"].keys == {1: "key-one", 2: "key-two", 99: "key-99"}
    assert settings["gemini"].keys == {1: "key-g", 2: "key-g2"}
    assert settings["openai"].key == "key-one"
    assert "key-" not in repr(settings)

    accounts = endpoints(PROVIDERS["openai"], settings["openai"], timeout_s=30)

    assert {name: it.headers["authorization"] for name, it in accounts.items()} == {
        "openai": "Bearer key-one",
        "openai#2": "Bearer key-two",
        "openai#99": "Bearer key-99",
    }
    # Each key is removed from the error texts of each account.
    assert {it.keys for it in accounts.values()} == {("key-one", "key-two", "key-99")}
    assert endpoints(PROVIDERS["vllm"], ProviderSettings(), timeout_s=30).keys() == {"vllm"}


def test_a_pool_without_its_first_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_2", "key-two")
    settings = load_provider_settings()

    assert settings["openai"].key == "key-two"
    assert "openai" not in combined(PROVIDERS, settings).missing()
    accounts = endpoints(PROVIDERS["openai"], settings["openai"], timeout_s=30)
    assert accounts.keys() == {"openai#2"}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("key-one", "OPENAI_API_KEY_2: must differ from OPENAI_API_KEY"),
        ("kéy", "OPENAI_API_KEY_2: must contain only printable ASCII characters"),
    ],
)
def test_a_wrong_further_key_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str, complaint: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-one")
    monkeypatch.setenv("OPENAI_API_KEY_2", value)

    with pytest.raises(SettingsError) as caught:
        load_provider_settings()
    assert str(caught.value) == complaint


def test_further_keys_are_settings() -> None:
    names = dict.fromkeys(["OPENAI_API_KEY_2", "GOOGLE_API_KEY_99", "MISTRAL_API_KEY"], "k")

    assert unknown_settings(names, PROVIDERS) == []
