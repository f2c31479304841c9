"""Tests from where a deployment without API keys can be used: web pages and other machines."""

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route
from support.authentication import ANN, API_KEYS
from support.browser import needs_chromium, open_browser
from support.command import up
from support.stack import Start, chat, eventually

from api.middleware.host_check import HostCheck
from shared.queue.redis_keys import Keys

PROJECT = Path(__file__).parents[2]
HERE = "localhost:8000"
BATCH = {"requests": [chat("a paid request")]}
LIVE = json.dumps({"model": "openrouter/m", "messages": [{"role": "user", "content": "x"}]})
CHANGING = [("POST", "/batch"), ("POST", "/jobs"), ("DELETE", "/jobs/x"), ("POST", "/jobs/x/retry")]
READING = [("GET", path) for path in ("/", "/jobs", "/jobs/x/results", "/overview", "/metrics")]
HEALTH = ("/health", "/health/ready", "/health/")
ELSEWHERE = "192.0.2.1"  # RFC 5737: an address for examples; only a test's own network has it


def refusal(
    host: str = HERE,
    *allowed: str,
    origin: str | None = None,
    method: str = "POST",
    server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
    without_keys: bool = True,
    allow_keyless: bool = False,
) -> str:
    hosts = HostCheck(allowed, without_keys=without_keys, allow_keyless=allow_keyless)
    headers = {b"host": host.encode("latin-1")} if host else {}
    if origin is not None:
        headers[b"origin"] = origin.encode()
    scope = {"method": method, "server": server}
    first, again = hosts.refusal(scope, headers), hosts.refusal(scope, headers)
    assert first == again
    return first or ""


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST:1", "localhost.", "app.localhost:8000"),
        *("127.0.0.1:8000", "127.8.9.1", "[::1]:8000", "[::ffff:127.0.0.1]", "0.0.0.0:8000"),
        "",  # HTTP/1.0 needs no Host, and a browser always sends one
    ],
)
def test_loopback_names_and_addresses_are_served(host: str) -> None:
    assert refusal(host) == ""


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("x", "api", "evil-localhost", "192.168.1.5:8000", "[fd00::1]:8000", "2130706433"),
        *("localhost@evil.example", "localhost:8000:80", "[::1", "a b", "localhost, evil.example"),
        *("\xe9vil.example", "localhost/", ".", ":8000", "x" * 70_000),
    ],
)
def test_other_hosts_are_refused_with_the_setting(host: str) -> None:
    reason = refusal(host)
    assert "ALLOWED_HOSTS" in reason
    assert len(reason) < 600


@pytest.mark.parametrize(
    ("host", "allowed", "served"),
    [
        ("llm.example.com", ["llm.example.com"], True),
        ("LLM.example.com.:443", ["llm.example.com"], True),
        ("a.llm.example.com", ["llm.example.com"], False),
        ("a.b.example.com", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("evil-example.com", ["*.example.com"], False),
        ("10.0.0.7:8000", ["10.0.0.7"], True),
        ("localhost", ["llm.example.com"], True),
    ],
)
def test_allowed_hosts(host: str, allowed: list[str], served: bool) -> None:  # noqa: FBT001 — parametrized
    assert (refusal(host, *allowed) == "") == served
    assert (refusal(host, *allowed, without_keys=False) == "") == served


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:8000", HERE, []),
        ("http://LOCALHOST:8000", HERE, []),
        ("http://[::1]:8000", "[::1]:8000", []),
        ("http://localhost", "localhost:80", []),
        ("https://localhost:443", "localhost", []),
        ("https://llm.example.com", "llm.example.com", ["llm.example.com"]),
        ("https://llm.example.com:8443", HERE, ["llm.example.com"]),  # a proxy replaced Host
    ],
)
def test_pages_of_this_api_may_change_something(origin: str, host: str, allowed: list[str]) -> None:
    assert refusal(host, *allowed, origin=origin) == ""


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "https://evil.example:8000", "http://localhost", "null", ""),
        *("http://localhost:3000", "http://127.0.0.1:8000", "https://localhost", "file://"),
        *("http://localhost:8000.evil.example", "http://localhost:8000@evil.example"),
        *("chrome-extension://localhost:8000", "http://localhost:8000/", "x" * 70_000),
    ],
)
def test_pages_of_other_sites_may_change_nothing(origin: str) -> None:
    for method in ("POST", "DELETE", "PUT", "PATCH", "UNKNOWN"):
        assert "ALLOWED_HOSTS" in refusal(origin=origin, method=method)
    for method in ("GET", "HEAD", "OPTIONS"):  # the browser does not let the page read the answer
        assert refusal(origin=origin, method=method) == ""


@pytest.mark.parametrize(
    ("server", "served"),
    [
        (("127.0.0.1", 8000), True),
        (("::1", 8000), True),
        (("::ffff:127.0.0.1", 8000), True),
        (("/run/orchestrator.sock", None), True),  # a unix socket
        (None, True),  # uvicorn's unix socket
        (("192.168.1.5", 8000), False),
        (("::ffff:192.168.1.5", 8000), False),
        (("fd00::1", 8000), False),
    ],
)
def test_without_keys_only_this_machine_is_served(
    server: tuple[str, int | None] | None,
    served: bool,  # noqa: FBT001 — parametrized
) -> None:
    for method in ("GET", "POST"):
        reason = refusal(method=method, server=server)
        assert served == (reason == "")
        assert served or ("API_KEYS" in reason and "ALLOW_KEYLESS" in reason)
    assert refusal(server=server, allow_keyless=True) == ""
    if server and server[1]:  # the address at which the connection arrived
        host = f"[{server[0]}]" if ":" in server[0] else server[0]
        assert refusal(f"{host}:8000", server=server, allow_keyless=True) == ""


async def test_the_whole_api_refuses_other_hosts_and_origins(stack: Start) -> None:
    api = (await stack(workers=0)).api
    for method, path in [*CHANGING, *READING, ("GET", "/docs"), ("GET", "/nothing")]:
        answer = await api.request(method, path, headers={"host": "evil.example"})
        assert (answer.status_code, "ALLOWED_HOSTS" in answer.text) == (403, True), path
        answer = await api.request(method, path, headers={"origin": "http://evil.example"})
        assert (answer.status_code == 403) == (method != "GET"), path
    v1 = await api.post("/v1/chat/completions", headers={"host": "evil.example"})
    assert "ALLOWED_HOSTS" in v1.json()["error"]["message"]
    for path in HEALTH:
        answer = await api.get(path, headers={"host": "10.1.2.3:8000"})
        assert answer.status_code in {200, 503}, path  # no worker is alive
        assert "ALLOWED_HOSTS" not in answer.text


async def test_with_keys_any_host_is_served_unless_allowed_hosts_is_set(stack: Start) -> None:
    headers = {"host": "llm.example.com", "origin": "https://other.example"}
    keyed = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    assert (await keyed.api.post("/jobs/x/retry", headers=headers)).status_code == 404
    strict = await stack(workers=0, key=ANN, API_KEYS=API_KEYS, ALLOWED_HOSTS="a.example")
    assert (await strict.api.post("/jobs/x/retry", headers=headers)).status_code == 403


ATTACK = """
async () => {
  const seen = {};
  const tried = async (name, path, options) => {
    try {
      const answer = await fetch(path, options);
      const text = answer.type === "opaque" ? "" : await answer.text();
      seen[name] = [answer.type, answer.status, text];
    } catch (error) {
      seen[name] = ["blocked", 0, String(error)];
    }
  };
  const body = JSON.stringify(BATCH);
  const plain = { "content-type": "text/plain" }, json = { "content-type": "application/json" };
  const simple = { method: "POST", mode: "no-cors", headers: plain, body };
  const bare = { method: "POST", mode: "no-cors" };
  await tried("list", "ROOT/jobs");
  await tried("read", "ROOT/overview");
  await tried("batch", "ROOT/batch", simple);
  await tried("job", "ROOT/jobs", simple);
  await tried("json", "ROOT/batch", { ...simple, mode: "cors", headers: json });
  await tried("retry", "ROOT/JOB/retry", bare);
  await tried("cancel", "ROOT/JOB", { method: "DELETE" });
  const form = new FormData();
  form.append("purpose", "batch");
  form.append("file", new Blob(["{}"]), "file");
  await tried("file", "ROOT/v1/files", { method: "POST", mode: "no-cors", body: form });
  await tried("files", "ROOT/v1/files");
  await tried("live", "ROOT/v1/chat/completions", { ...simple, body: LIVE });
  await tried("batch of OpenAI", "ROOT/v1/batches/batch_ID/cancel", bare);
  return seen;
}
"""


@asynccontextmanager
async def attacking_page(url: str) -> AsyncIterator[Page]:
    """Opens a page of an attacker. Its name, evil.example, leads to 127.0.0.1."""

    async def serve(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<title>win a prize</title>")

    async with open_browser("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        page = await browser.new_page()
        await page.route("**/prize", serve)
        await page.goto(f"{url}/prize")
        yield page


@needs_chromium
@pytest.mark.parametrize("rebinding", [True, False])
async def test_a_page_of_an_attacker_reads_and_changes_nothing(
    stack: Start,
    rebinding: bool,  # noqa: FBT001 — parametrized
) -> None:
    """Tests a page whose own name leads to the API, and a page of another site."""
    deployment = await stack(workers=1)
    port = deployment.api.base_url.port or 0
    kept = await deployment.batch([chat("secret prompt", model="sim-404")])
    [job] = (await deployment.api.get("/jobs")).json()["jobs"]
    calls = (await deployment.stats())["calls"]
    root = "" if rebinding else f"http://127.0.0.1:{port}"
    script = ATTACK.replace("ROOT", root).replace("JOB", f"jobs/{job['job_id']}")
    script = script.replace("batch_ID", f"batch_{job['job_id']}").replace("LIVE", repr(LIVE))

    async with attacking_page(f"http://evil.example:{port if rebinding else port + 1}") as page:
        seen: dict[str, Any] = await page.evaluate(script.replace("BATCH", str(BATCH)))

    assert kept.status_code == 200
    assert len(seen) == 11
    for kind, status, text in seen.values():
        assert (kind, status) in {("basic", 403), ("opaque", 0), ("blocked", 0)}, seen
        assert job["job_id"] not in text
    assert (await deployment.api.get("/jobs")).json()["jobs"] == [job]
    assert (await deployment.api.get("/v1/files")).json()["data"] == []
    assert (await deployment.stats())["calls"] == calls


needs_namespaces = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip", "curl"))),
    reason="only root can make a network namespace, with unshare, nsenter, ip and curl",
)


@asynccontextmanager
async def api_of_another_machine(**settings: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Runs the API at all addresses of a network namespace, one of which is ELSEWHERE.

    Yields a function that runs curl there. It returns the status and the body.
    """
    setup = f'ip link set lo up && ip addr add {ELSEWHERE} dev lo && exec "$@"'
    server = (sys.executable, "-m", "uvicorn", "api.main:app", "--host", "0.0.0.0")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", setup, "sh", *server, "--port", "8000"),
        env=os.environ | settings,
    )

    async def curl(*argv: str) -> str:
        namespace = f"--net=/proc/{process.pid}/ns/net"
        client = await asyncio.create_subprocess_exec(
            *("nsenter", namespace, "curl", "-s", "-w", " %{http_code}", *argv), stdout=PIPE
        )
        output, _ = await client.communicate()
        return output.decode()

    async def ready() -> bool:
        return '{"status":"ok"} 200' in await curl("http://127.0.0.1:8000/health")

    try:
        await eventually(ready)
        yield curl
    finally:
        process.terminate()
        await process.wait()


@needs_namespaces
async def test_other_machines_are_refused_without_keys(valkey_url: str, keys: Keys) -> None:
    redis = {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}
    there = f"http://{ELSEWHERE}:8000"
    async with api_of_another_machine(**redis) as curl:
        assert (await curl("http://127.0.0.1:8000/jobs")).endswith(" 200")
        for request in ([], ["-H", "Host: localhost"], ["-X", "POST"]):
            refused = await curl(*request, f"{there}/jobs")
            assert "API_KEYS" in refused
            assert "ALLOW_KEYLESS" in refused
            assert refused.endswith(" 403")
        for path in HEALTH:
            assert (await curl(f"{there}{path}"))[-3:] in {"200", "503"}
    async with api_of_another_machine(**redis, ALLOW_KEYLESS="true") as curl:
        assert (await curl(f"{there}/jobs")).endswith(" 200")
        assert (await curl("-H", "Host: evil.example", f"{there}/jobs")).endswith(" 403")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_up_says_that_other_machines_are_refused(
    environment: dict[str, str], tmp_path: Path, host: str
) -> None:
    with (tmp_path / "errors").open("a+b") as errors:
        async with up(environment, "--workers", "1", "--simulate", "--host", host, stderr=errors):
            errors.seek(0)
            assert (b"ALLOW_KEYLESS" in errors.read()) == (host == "0.0.0.0")


def test_compose_publishes_on_loopback_and_limits_redis() -> None:
    """tests/test_containers.py has the test with containers."""
    plain, observability = (
        (PROJECT / name).read_text()
        for name in ("docker-compose.yml", "docker-compose.observability.yml")
    )
    published = re.findall(r"^    ports: (.*)$", plain + observability, re.MULTILINE)

    assert published == [
        '["${API_ADDRESS:-127.0.0.1}:${API_PORT:-8000}:8000"]',
        '["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]',
        '["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]',
    ]
    assert (plain + observability).count("ports:") == len(published)
    assert "network_mode" not in plain + observability
    assert "--maxmemory ${REDIS_MAXMEMORY:-2gb} --maxmemory-policy noeviction" in plain
    assert "ALLOW_KEYLESS: ${ALLOW_KEYLESS:-true}" in plain
