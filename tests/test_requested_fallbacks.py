"""Tests fallbacks that a request or `providers.toml` names, from the request to the result."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.in_process import running_api, running_worker
from support.jobs import ndjson, upload, wait_completed
from support.providers import combined
from support.stack import Start, chat

from cli.simulator import Simulator
from shared.providers import PROVIDERS, Alias, Catalogue, Deployment, Provider
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def file_with_fallbacks(simulator: Simulator, tmp_path: Path) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(
        f"""
        [providers.gpu1]
        base_url = "{simulator.url}/v1"

        [providers.gpu2]
        base_url = "{simulator.url}/v1"

        [models.fast]
        deployments = [{{ provider = "gpu1", model = "sim-404" }}]
        fallbacks = ["gpu2/sim-status-404", "slow"]

        [models.slow]
        deployments = [
            {{ provider = "gpu1", model = "Big" }},
            {{ provider = "gpu2", model = "Big" }},
        ]
        """
    )
    return str(path)


async def test_the_result_says_what_served_the_request_and_what_was_tried(
    stack: Start, file_with_fallbacks: str
) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=file_with_fallbacks)
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}

    job = await wait_completed(deployment.api, await upload(deployment.api, ndjson([body])))
    [response] = job["responses"]
    assert (response["error"], response["model"], response["attempts"]) == (None, "Big", 3)
    assert response["provider"] in {"gpu1", "gpu2"}
    assert response["body"]["choices"][0]["message"]["content"] == "echo: hello"
    assert response["route"] == [
        {"model": "gpu1/sim-404", "error_code": "model_not_found", "attempts": 1},
        {"model": "gpu2/sim-status-404", "error_code": "model_not_found", "attempts": 1},
    ]


async def test_a_native_request_names_its_fallbacks(stack: Start, file_with_fallbacks: str) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=file_with_fallbacks)
    request = chat("hello", provider="gpu1", model="sim-404") | {"models": ["gpu2/Org/M", "slow"]}

    answer = await deployment.batch([request])

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"]) == (None, "echo: hello")
    assert (response["provider"], response["model"]) == ("gpu2", "Org/M")
    assert [step["model"] for step in response["route"]] == ["gpu1/sim-404"]


async def test_without_retries_a_failed_request_moves_on(
    settings: Settings, simulator: Simulator
) -> None:
    """The request is tried on a provider without a key, and on others that fail."""
    urls = {
        "gpu1": f"{simulator.url}/v1",
        "gpu2": "http://127.0.0.1:1/v1",
        "gpu3": f"{simulator.url}/v1",
    }
    rows = {name: Provider(name, url, key_required=False) for name, url in urls.items()}
    settings_of = {name: ProviderSettings(base_url=url) for name, url in urls.items()}
    providers = combined({**PROVIDERS, **rows}, settings_of)
    settings = settings.model_copy(update={"max_retries": 0})
    request = chat("hello", provider="openai") | {
        "models": ["gpu2/m", "gpu1/sim-status-500", "gpu1/sim-429-100", "gpu3/M"]
    }
    async with (
        running_api(settings, providers.catalogue) as api,
        running_worker(settings, providers),
    ):
        answer = await api.post("/batch", json={"requests": [request]})

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"], response["model"]) == (None, "echo: hello", "M")
    assert response["route"] == [
        {"model": "openai/m", "error_code": "provider_not_configured", "attempts": 0},
        {"model": "gpu2/m", "error_code": "connection_error", "attempts": 1},
        {"model": "gpu1/sim-status-500", "error_code": "provider_error", "attempts": 1},
        {"model": "gpu1/sim-429-100", "error_code": "rate_limited", "attempts": 1},
    ]
    assert response["attempts"] == 4


async def test_too_many_fallbacks_of_fallbacks_are_refused(settings: Settings) -> None:
    """Tests that no fallback is dropped silently. The fallbacks of an alias count, too."""
    rows = {**PROVIDERS, "gpu2": Provider("gpu2", "http://gpu2")}
    follow = tuple(Deployment("gpu2", f"m{number}") for number in range(5))
    aliases = {
        name: Alias(
            (Deployment("gpu2", name),),
            tuple(replace(d, model=name + d.model) for d in follow),
            60.0,
        )
        for name in ("x", "y")
    }
    async with running_api(settings, Catalogue(rows, aliases=aliases)) as api:
        answers = [
            await api.post(
                "/batch?mode=async", json={"requests": [chat("hello") | {"models": models}]}
            )
            for models in (["x", "gpu2/a", "gpu2/b", "gpu2/c", "gpu2/d"], ["x", "y"])
        ]

    assert [answer.status_code for answer in answers] == [202, 422]
    [error] = answers[1].json()["detail"]
    assert error["loc"][-1] == "models"
    assert "these are 12 fallbacks; 10 are allowed" in error["msg"]


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (["gpu3/m"], "no provider is named 'gpu3'"),
        (["m"], "nothing says which provider serves the model 'm'"),
        (["gpu2/m"] * 6, "at most 5"),
        ([""], "at least 1"),
    ],
)
async def test_a_wrong_fallback_is_refused(
    settings: Settings, models: list[str], reason: str
) -> None:
    catalogue = Catalogue({**PROVIDERS, "gpu2": Provider("gpu2", "http://gpu2")})
    async with running_api(settings, catalogue) as api:
        request = chat("hello") | {"models": models}
        refused = await api.post("/batch", json={"requests": [request]})

    assert refused.status_code == 422
    assert reason in refused.text
    assert "models" in refused.text
