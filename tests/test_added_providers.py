"""A provider is added by a file alone, and a built-in provider by one line of code."""

from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.in_process import running_api, running_worker
from support.jobs import ndjson, upload, wait_completed
from support.providers import combined
from support.stack import Start, chat

from cli.simulator import Simulator
from cli.simulator.environment import simulated_environment
from shared.providers import PROVIDERS, Provider
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def providers_file(simulator: Simulator, tmp_path: Path) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(
        f"""
        [providers.gpu1]
        base_url = "{simulator.url}/v1"

        [models.fast]
        deployments = [{{ provider = "gpu1", model = "Qwen/Qwen3-8B" }}]
        """
    )
    return str(path)


async def test_a_provider_of_the_file_answers(
    stack: Start, simulator: Simulator, providers_file: str
) -> None:
    """Nothing but PROVIDERS_FILE is set, for the processes of the API and the worker."""
    deployment = await stack(workers=1, PROVIDERS_FILE=providers_file)

    answer = await deployment.batch([chat("hello", provider="gpu1", model="Org/Model")])

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"]) == (None, "echo: hello")
    assert (response["provider"], response["model"]) == ("gpu1", "Org/Model")
    assert simulator.last()["openai"]["body"]["model"] == "Org/Model"


async def test_an_alias_and_a_prefix_lead_to_a_provider_of_the_file(
    stack: Start, simulator: Simulator, providers_file: str
) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=providers_file)
    for model in ("fast", "FAST", "gpu1/Qwen/Qwen3-8B"):
        body = {"model": model, "messages": [{"role": "user", "content": f"hello {model}"}]}

        await wait_completed(deployment.api, await upload(deployment.api, ndjson([body])))

        assert simulator.last()["openai"]["body"] == body | {"model": "Qwen/Qwen3-8B"}


@pytest.fixture
def two_gpus(simulator: Simulator, tmp_path: Path) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(
        f"""
        [providers.gpu1]
        base_url = "{simulator.url}/v1"

        [providers.gpu2]
        base_url = "{simulator.url}/v1"

        [models."my fast one"]
        deployments = [
            {{ provider = "gpu1", model = "Big", weight = 3 }},
            {{ provider = "gpu2", model = "Small" }},
        ]
        """
    )
    return str(path)


async def test_an_alias_with_several_deployments(
    stack: Start, simulator: Simulator, two_gpus: str
) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=two_gpus, MAX_CONCURRENT_REQUESTS="40")
    bodies = [
        {"model": "My Fast One", "messages": [{"role": "user", "content": f"hello {n}"}]}
        for n in range(40)
    ]

    job = await wait_completed(deployment.api, await upload(deployment.api, ndjson(bodies)))
    served = Counter((r["provider"], r["model"]) for r in job["responses"])
    assert job["providers"] == {"my fast one": 40}
    assert served.keys() == {("gpu1", "Big"), ("gpu2", "Small")}
    assert served["gpu1", "Big"] == 30
    sent = Counter(call["model"] for call in simulator.ledger())
    assert sent == {"Big": served["gpu1", "Big"], "Small": served["gpu2", "Small"]}


async def test_each_key_of_a_provider_is_used(
    stack: Start, simulator: Simulator, two_gpus: str
) -> None:
    deployment = await stack(
        workers=1,
        PROVIDERS_FILE=two_gpus,
        GPU1_API_KEY="first",
        GPU1_API_KEY_2="second",
        GPU1_MAX_CONCURRENT_REQUESTS="4",
    )

    answer = await deployment.batch(
        [chat(f"hello {n}", provider="gpu1", model="Org/Model") for n in range(20)]
    )

    assert {r["error"] for r in answer.json()["responses"]} == {None}
    assert {call["key"] for call in simulator.ledger()} == {"first", "second"}


async def test_a_provider_without_a_row_is_refused_with_the_nearest(
    stack: Start, providers_file: str
) -> None:
    deployment = await stack(workers=0, PROVIDERS_FILE=providers_file)

    refused = await deployment.batch([chat("hello", provider="gpu2")])

    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "no provider is named 'gpu2'; did you mean 'gpu1'?" in refused.text
    assert "PROVIDERS_FILE" in refused.text


async def test_a_row_is_one_line(simulator: Simulator, settings: Settings) -> None:
    rows = {**PROVIDERS, "third": Provider("third", "https://api.third.test/openai/v1")}

    variables = simulated_environment(simulator.url, rows)
    simulated = ProviderSettings(
        api_key=variables["THIRD_API_KEY"], base_url=variables["THIRD_BASE_URL"]
    )
    providers = combined(rows, {"third": simulated})
    async with (
        running_api(settings, providers.catalogue) as api,
        running_worker(settings, providers),
    ):
        request = chat("hello", provider="third", model="Org/Model")
        answer = await api.post("/batch", json={"requests": [request]})

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"]) == (None, "echo: hello")
    last = simulator.last()["openai"]
    assert last["headers"]["authorization"] == "Bearer simulated"
    # Only what the request contains is sent.
    assert last["body"] == {
        "model": "Org/Model",
        "messages": [{"role": "user", "content": "hello"}],
    }
