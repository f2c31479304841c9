"""Tests files and batches with OpenAI's clients. The one for Python checks the type of every field.

https://github.com/openai/openai-python
https://github.com/openai/openai-node
"""

import io
import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from support.authentication import ANN, API_KEYS, BOB, entry
from support.openai_client_batches import (
    CHAT,
    MODEL,
    counts,
    create,
    ended,
    line,
    lines_of,
    upload,
)
from support.openai_deployment import Deployment, run_javascript
from support.real_files import REAL_FILES, is_batch, requests_of
from support.webhook_receiver import receiver

pytestmark = pytest.mark.foreign

EVE = "eve's key"  # the key of an owner who has nothing at first
SECRET = f"whsec_{b64encode(bytes(range(32))).decode()}"


@pytest.fixture(scope="module")
def running(valkey_url: str) -> Iterator[Deployment]:
    names = ("js", "batches", "batches of another")
    others = " ".join(entry(f"js{number}", name) for number, name in enumerate(names))
    keys = f"{API_KEYS} {entry('eve', EVE)} {others}"
    with Deployment(
        valkey_url,
        key=ANN,
        API_KEYS=keys,
        WEBHOOK_SECRET=SECRET,
        WEBHOOK_ALLOW_PRIVATE="true",
        DEFAULT_PROVIDER="openrouter",
    ) as deployment:
        yield deployment


@pytest.fixture
def provider(running: Deployment) -> Deployment:
    running.simulate()
    return running


@pytest.fixture(scope="module")
def client(running: Deployment) -> Any:
    return running.client(ANN)


def test_every_way_to_name_a_file(client: Any, tmp_path: Path) -> None:
    data = line("a").encode()
    path = tmp_path / "requests.txt"
    path.write_bytes(data)
    ways: list[tuple[Any, str]] = [
        (path, "requests.txt"),
        (data, "upload"),
        (io.BytesIO(data), "upload"),
        (("näme.jsonl", data), "näme.jsonl"),
        (("a.jsonl", io.BytesIO(data), "application/jsonl"), "a.jsonl"),
        (path.open("rb"), "requests.txt"),
    ]
    for way, name in ways:
        file = client.files.create(file=way, purpose="batch")

        assert (file.filename, file.bytes, file.status) == (name, len(data), "processed")
        assert client.files.content(file.id).read() == data
        assert client.files.wait_for_processing(file.id).id == file.id
    path_file = ways[-1][0]
    path_file.close()


def test_expiry_and_purpose(client: Any) -> None:
    file = client.files.create(
        file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
    )

    assert file.expires_at - file.created_at in {7200, 7201}
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(file=b"x", purpose="wrong")
    assert raised.value.param == "purpose"
    other = client.files.create(file=b"x", purpose="user_data")
    with pytest.raises(openai.BadRequestError) as raised:
        client.batches.create(input_file_id=other.id, endpoint=CHAT, completion_window="24h")
    assert raised.value.param == "input_file_id"


@contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """Asserts that the process's memory grows by less than 60 MiB while the context runs."""
    process = psutil.Process(pid)
    peak = before = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert (peak - before) / 2**20 < 60


def test_a_large_upload_needs_little_memory(
    running: Deployment, client: Any, tmp_path: Path
) -> None:
    """Sends files as large as prompts with an image on each line make them."""
    text = "x" * 400_000
    data = "\n".join(line(str(number), text) for number in range(150)).encode()
    assert len(data) > 60_000_000
    create(client, line("warm"))

    with little_memory(running.api_pid):
        file = client.files.create(file=data, purpose="batch")
        client.files.delete(file.id)
        run_javascript("openai_upload.mjs", running, tmp_path)

    assert file.bytes == len(data)


def test_mistakes(client: Any) -> None:
    lines = [
        "\ufeff" + line("a"),
        "{",
        line("a"),
        line("b", url="/v1/x"),
        line("c").replace("POST", "PUT"),
        line("d").replace(f'"model": "{MODEL}", ', ""),
        line("é"),
        *("", ""),
    ]
    content = "\r\n".join(lines).encode().replace(rb"\u00e9", b"\xe9")
    file = client.files.create(file=content, purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")

    assert file.status == "processed"
    assert batch.status == "failed"
    assert counts(batch) == (0, 0, 0)
    assert [(error.line, error.code, error.param) for error in batch.errors.data] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "invalid_url", "url"),
        (5, "invalid_method", "method"),
        (6, "missing_required_parameter", "body.model"),
        (7, "invalid_json_line", None),
    ]
    assert client.batches.retrieve(batch.id) == batch
    [empty] = create(client, "").errors.data
    assert (empty.code, empty.line) == ("empty_file", None)


def test_files_of_others(running: Deployment, client: Any) -> None:
    bob = running.client(BOB)
    file = upload(client, line("a"))
    batch = ended(client, create(client, line("a")))

    for file_id in (file.id, batch.output_file_id):
        assert client.files.retrieve(file_id).id == file_id
        for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file_id)
    with pytest.raises(openai.NotFoundError):
        bob.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError) as raised:
        bob.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert raised.value.param == "input_file_id"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.AuthenticationError):
        running.client("wrong").files.list()


def test_lists_of_45(running: Deployment) -> None:
    eve = running.client(EVE)
    created = [create(eve, line(str(number))) for number in range(45)]
    batches = [ended(eve, batch) for batch in created[::-1]]
    files = [file for batch in batches for file in (batch.output_file_id, batch.input_file_id)]

    for limit in (7, 15, 45, 100):
        assert list(eve.batches.list(limit=limit)) == batches
        assert [file.id for file in eve.files.list(limit=limit)] == files
        assert [file.id for file in eve.files.list(limit=limit, order="asc")] == files[::-1]
        outputs = eve.files.list(limit=limit, purpose="batch_output")
        assert [file.id for file in outputs] == files[::2]
    assert [file.id for file in eve.files.list()] == files
    assert len(list(eve.files.list(limit=100, purpose="user_data"))) == 0


def test_answers(client: Any, provider: Deployment) -> None:
    """A file may have several models of several providers."""
    models = [MODEL, "ollama/llama3.2:3b", "gpt-x"]
    batch = create(
        client,
        *(line(str(number), f"text {number}", model=models[number % 3]) for number in range(9)),
        metadata={f"{number}" * 64: "v" * 512 for number in range(10)},
    )
    batch = ended(client, batch)
    answers = lines_of(client, batch.output_file_id)

    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (9, 9, 0), None)
    assert batch.model is None
    assert batch.completed_at >= batch.in_progress_at >= batch.created_at
    assert len(batch.metadata) == 10
    assert [answer["custom_id"] for answer in answers] == [str(number) for number in range(9)]
    texts = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [f"echo: text {number}" for number in range(9)]
    usage = [answer["response"]["body"]["usage"] for answer in answers]
    assert batch.usage.input_tokens == sum(entry["prompt_tokens"] for entry in usage)
    assert batch.usage.total_tokens == sum(entry["total_tokens"] for entry in usage)
    assert {body["model"] for body in provider.received()} == {
        "openai/gpt-x",
        "llama3.2:3b",
        "gpt-x",
    }


def test_some_fail(client: Any) -> None:
    refused = line("refused", model="openrouter/sim-400")
    batch = ended(client, create(client, line("a"), refused, line("b")))
    [failed] = lines_of(client, batch.error_file_id)

    assert counts(batch) == (3, 2, 1)
    assert len(lines_of(client, batch.output_file_id)) == 2
    assert (failed["custom_id"], failed["error"]) == ("refused", None)
    assert failed["response"]["status_code"] == 400
    assert set(failed["response"]["body"]["error"]) == {"message", "type", "param", "code"}


def test_all_fail(client: Any) -> None:
    model = "openrouter/sim-400"
    batch = ended(client, create(client, *(line(str(n), model=model) for n in range(9))))

    assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (9, 0, 9), None)
    assert len(lines_of(client, batch.error_file_id)) == 9


def test_cancelling(client: Any, provider: Deployment) -> None:
    hanging = [line(str(number), model="openrouter/sim-hang") for number in range(20)]
    batch = create(client, line("done", model="ollama/m"), *hanging)
    provider.in_flight(10)
    output = f"file-{batch.id.removeprefix('batch_')}-output"
    until = time.monotonic() + 30
    while not client.files.content(output).text:
        assert time.monotonic() < until
    partial = client.files.with_raw_response.content(output)

    cancelling = client.batches.cancel(batch.id)
    batch = ended(client, cancelling)

    assert partial.headers["x-incomplete"] == "true"
    assert (cancelling.status, cancelling.cancelled_at) == ("cancelling", None)
    assert (batch.status, counts(batch)) == ("cancelled", (21, 1, 20))
    assert [answer["custom_id"] for answer in lines_of(client, batch.output_file_id)] == ["done"]
    errors = lines_of(client, batch.error_file_id)
    assert {entry["error"]["code"] for entry in errors} == {"batch_cancelled"}
    assert [entry["custom_id"] for entry in errors] == [str(number) for number in range(20)]


def test_expiry_of_a_batch(running: Deployment, client: Any) -> None:
    """A job has a shorter deadline than a batch can have."""
    answer = httpx.post(
        running.base_url.replace("/v1", "/jobs"),
        params={"deadline_s": 1},
        content=line("late", model="openrouter/sim-hang"),
        headers={"authorization": f"Bearer {ANN}", "content-type": "application/x-ndjson"},
    )
    batch = ended(client, client.batches.retrieve(answer.json()["job_id"]))
    [late] = lines_of(client, batch.error_file_id)

    assert (batch.status, counts(batch)) == ("expired", (1, 0, 1))
    # Both are rounded down to a second, and the job ends soon after its deadline.
    assert batch.expires_at <= batch.expired_at <= batch.expires_at + 30
    assert (late["response"], late["error"]["code"]) == (None, "batch_expired")


def test_metadata_limits(client: Any) -> None:
    for metadata in (
        {f"{number}": "" for number in range(17)},
        {"k" * 65: ""},
        {"k": "v" * 513},
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            create(client, line("a"), metadata=metadata)
        assert str(raised.value.param).startswith("metadata")


def test_creating_twice(client: Any) -> None:
    again: Any = {"extra_headers": {"Idempotency-Key": "run-42"}}

    first, second = create(client, line("a"), **again), create(client, line("a"), **again)

    assert first.id == second.id


@pytest.mark.parametrize(("text", "event"), [("a", "batch.completed"), ("b", "batch.cancelled")])
def test_webhooks(client: Any, text: str, event: str) -> None:
    model = MODEL if event == "batch.completed" else "openrouter/sim-hang"
    with receiver() as (url, received):
        new = create(client, line("a", text, model=model), extra_body={"webhook_url": url})
        if event == "batch.cancelled":
            client.batches.cancel(new.id)
        until = time.monotonic() + 30
        while not received:
            assert time.monotonic() < until
            time.sleep(0.05)
    [(body, headers)] = received

    found = client.webhooks.unwrap(body, headers, secret=SECRET)

    assert isinstance(found.created_at, int)
    assert (found.object, found.type, found.data.id) == ("event", event, new.id)


@pytest.mark.parametrize(
    ("script", "key"), [("openai_files.mjs", "js"), ("openai_batches.mjs", "batches")]
)
def test_the_client_for_javascript(
    provider: Deployment, tmp_path: Path, script: str, key: str
) -> None:
    run_javascript(script, provider, tmp_path, key=key)


@pytest.mark.skipif(not REAL_FILES, reason="there are no files of other projects")
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda p: p.stem)
def test_files_of_other_projects(
    client: Any, provider: Deployment, path: Path, tmp_path: Path
) -> None:
    """Sends the files as they are. Bodies without the rest of a line become lines first."""
    requests = requests_of(path)
    if not is_batch(requests[0]):
        url = "/v1/embeddings" if "input" in requests[0] else CHAT
        requests = [
            {"custom_id": str(number), "method": "POST", "url": url, "body": body}
            for number, body in enumerate(requests)
        ]
        path = tmp_path / path.name
        path.write_text("\n".join(map(json.dumps, requests)))
    file = client.files.create(file=path, purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint=requests[0]["url"], completion_window="24h"
    )
    batch = ended(client, batch)

    def sent(body: Any) -> str:
        fields = {name: body[name] for name in body if name not in {"stream", "stream_options"}}
        return json.dumps({**fields, "model": fields["model"].lower()}, sort_keys=True)

    ids = [request["custom_id"] for request in requests]
    if len(set(ids)) < len(ids):
        assert {error.code for error in batch.errors.data} == {"duplicate_custom_id"}
        return
    assert (batch.status, counts(batch)) == ("completed", (len(ids), len(ids), 0))
    answers = lines_of(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == ids
    assert sorted(map(sent, provider.received())) == sorted(sent(r["body"]) for r in requests)
