"""Tests how a wrong `providers.toml` is refused, without its secrets."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import run
from support.providers_file import GPU1, Read, reader

from shared.providers import PROVIDERS
from shared.settings import SettingsError
from shared.settings.providers_file import read_providers_file

Refused = Callable[[str], list[str]]

DEPLOYMENT = '{ provider = "openai", model = "m" }'


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path)


@pytest.fixture
def refused(read: Read, tmp_path: Path) -> Refused:
    """Returns the complaints about a file, without the path of the file."""

    def complaints(text: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            read(text)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{tmp_path}/providers.toml, ") for line in lines)
        return [line.removeprefix(f"{tmp_path}/providers.toml, ") for line in lines]

    return complaints


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # Unknown fields
        (
            GPU1 + "max_concurent_requests = 64\n",
            (
                "line 3: providers.gpu1.max_concurent_requests: is unknown;"
                " did you mean max_concurrent_requests?"
            ),
        ),
        ("\n\n[provider.x]\n", "line 3: provider: is unknown; did you mean providers?"),
        ("zzz = 1\n", "line 1: zzz: is unknown; known are providers, models"),
        (
            '[models.x]\ndeployment = []\ndeployments = [{ provider = "openai", model = "m" }]\n',
            "line 2: models.x.deployment: is unknown; did you mean deployments?",
        ),
        (
            '[models.x]\ndeployments = [\n  { provider = "openai", modle = "", model = "m" },\n]\n',
            "line 2: models.x.deployments.0.modle: is unknown; did you mean model?",
        ),
        (
            GPU1 + "[providers.gpu1.models.m]\nadaptive = true\n",
            (
                "line 4: providers.gpu1.models.m.adaptive: is not a limit of a model; set it in"
                " [providers.gpu1] for all models"
            ),
        ),
        # Types and ranges
        (GPU1 + "timeout_s = 0\n", "line 3: providers.gpu1.timeout_s: must be greater than 0"),
        (GPU1 + 'timeout_s = "1"\n', "line 3: providers.gpu1.timeout_s: must be a valid number"),
        (GPU1 + "timeout_s = nan\n", "line 3: providers.gpu1.timeout_s: must be a finite number"),
        (
            GPU1 + "max_concurrent_requests = 100_001\n",
            (
                "line 3: providers.gpu1.max_concurrent_requests:"
                " must be less than or equal to 100000"
            ),
        ),
        (
            GPU1 + "max_concurrent_requests = 1.5\n",
            "line 3: providers.gpu1.max_concurrent_requests: must be a valid integer",
        ),
        (
            GPU1 + 'key_required = "yes"\n',
            "line 3: providers.gpu1.key_required: must be a valid boolean",
        ),
        (
            GPU1 + 'model_case = "upper"\n',
            "line 3: providers.gpu1.model_case: must be 'exact' or 'lower'",
        ),
        (
            '[providers.x]\nbase_url = "x"\n',
            (
                "line 2: providers.x.base_url: must start with http:// or https:// and contain a"
                " host"
            ),
        ),
        (
            '[providers.x]\nbase_url = "https://{resource}.openai.azure.com"\n',
            "line 2: providers.x.base_url: must not contain spaces or braces",
        ),
        ("[providers.x]\n", "line 1: providers.x: base_url is missing"),
        ("[models.x]\n", "line 1: models.x: deployments is missing"),
        (
            "[models.x]\ndeployments = []\n",
            "line 2: models.x.deployments: must have at least one deployment",
        ),
        ("providers = 1\n", "line 1: providers: must be sections [providers.NAME]"),
        ("[providers]\nx = 1\n", "line 2: providers.x: must be a section"),
        (
            GPU1 + 'unsupported = ["model"]\n',
            (
                "line 3: providers.gpu1.unsupported.0:"
                " must not contain model or messages, which each request needs"
            ),
        ),
        (
            GPU1 + 'headers = { Host = "x" }\n',
            "line 3: providers.gpu1.headers: must not contain Host: workers set it",
        ),
        (
            GPU1 + 'headers = { X = "ü" }\n',
            "line 3: providers.gpu1.headers: must contain only printable ASCII characters",
        ),
        (
            GPU1 + 'auth = "a header"\n',
            (
                "line 3: providers.gpu1.auth:"
                " must be bearer, none, or the name of the header that carries the key"
            ),
        ),
        # Names
        (
            '[providers.GPU_1]\nbase_url = "http://x"\n',
            "line 1: providers.GPU_1: the name must be 1 to 64 of the characters a-z 0-9 -",
        ),
        (
            '[providers.webhooks]\nbase_url = "http://x"\n',
            "line 1: providers.webhooks: the name is reserved for the delivery of webhooks",
        ),
        (
            '[providers.request]\nbase_url = "http://x"\n',
            (
                "line 1: providers.request: the name cannot be used: REQUEST_TIMEOUT is a setting"
                " with another meaning"
            ),
        ),
        (
            '[providers.orchestrator]\nbase_url = "http://x"\n',
            (
                "line 1: providers.orchestrator: the name cannot be used: ORCHESTRATOR_API_KEY"
                " is a setting with another meaning"
            ),
        ),
        (
            '[models."openai/x"]\ndeployments = [{ provider = "openai", model = "m" }]\n',
            (
                'line 1: models."openai/x": an alias must not begin with a provider\'s name and a'
                " slash"
            ),
        ),
        (
            '[models."Gpu1/x"]\ndeployments = [{ provider = "gpu1", model = "m" }]\n' + GPU1,
            (
                'line 1: models."Gpu1/x": an alias must not begin with a provider\'s name and a'
                " slash"
            ),
        ),
        (
            '[models.x]\ndeployments = [{ provider = "opnai", model = "m" }]\n',
            "line 2: models.x.deployments: no provider has this name; did you mean openai?",
        ),
        # Duplicates
        (
            GPU1 + GPU1,
            (
                "line 3: Cannot declare ('providers', 'gpu1') twice. The file must be TOML"
                " (toml.io)."
            ),
        ),
        (
            GPU1 + 'base_url = "http://x"\n',
            "line 3: Cannot overwrite a value. The file must be TOML (toml.io).",
        ),
        (
            f"[models.x]\ndeployments = [{DEPLOYMENT}]\n[models.X]\ndeployments = [{DEPLOYMENT}]\n",
            "line 3: models.X: the alias exists already; upper and lower case make no difference",
        ),
        # Not TOML
        (
            "a = 1\n\n[x\ny",
            (
                "line 3: Expected ']' at the end of a table declaration. The file"
                " must be TOML (toml.io)."
            ),
        ),
        ("[x]\na = [1,\n", "line 2: Invalid value. The file must be TOML (toml.io)."),
    ],
)
def test_a_wrong_file(refused: Refused, text: str, complaint: str) -> None:
    assert refused(text) == [complaint]


def test_every_complaint_is_made_in_the_order_of_the_lines(refused: Refused) -> None:
    complaints = refused('[models.x]\n[providers.a]\nrmp = 1\ntmp = 1\n[providers."b c"]\n')

    assert [complaint.partition(":")[0] for complaint in complaints] == [
        "line 1",
        "line 3",
        "line 4",
        "line 5",
    ]


SECRET = "sk-verysecret0123456789"  # noqa: S105 — not a secret


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{SECRET}"',
        f'key = "{SECRET}"',
        f'token = "{SECRET}"',
        f'api_key_env = "{SECRET}"',
        f'headers = {{ Authorization = "{SECRET}" }}',
        f'headers = {{ Authorization = "Basic {SECRET}" }}',
        f'headers = {{ X-Api-Key = "{SECRET}" }}',
        f'headers = {{ X-Auth-Token = "{SECRET}" }}',
        f'headers = {{ X-Team = "Bearer {SECRET}" }}',
        f'headers = {{ X-Team = "{SECRET}" }}',
        'headers = { X-Team = "AIzaSyverysecret0123456789" }',
        'headers = { X-Team = "verysecret0123456789verysecret0123456789" }',
        f'base_url = "http://user:{SECRET}@host"',
        f'base_url = "http://host?key={SECRET}"',
        f'auth = "Bearer {SECRET}"',
        f'timeout_s = "{SECRET}"',
        f'dialect = "{SECRET}"',
    ],
)
def test_a_key_in_clear_text_is_refused_and_never_repeated(refused: Refused, line: str) -> None:
    [complaint] = refused(f"[providers.gpu1]\n{line}\n")

    assert complaint.startswith("line 2: providers.gpu1.")
    assert "verysecret" not in complaint


def test_a_key_outside_a_section_is_never_repeated(refused: Refused) -> None:
    complaints = refused(f'api_key = "{SECRET}"\n[models.x]\nkey = "{SECRET}"\n')

    assert [complaint.partition(": set ")[0] for complaint in complaints] == [
        "line 1: api_key: must not be in this file",
        "line 2: models.x: deployments is missing",
        "line 3: models.x.key: must not be in this file",
    ]


def test_a_refused_key_names_the_variable_instead(refused: Refused) -> None:
    [complaint] = refused(GPU1 + f'api_key = "{SECRET}"\n')

    assert "set GPU1_API_KEY in the environment or in .env" in complaint
    assert "api_key_env" in complaint


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    with pytest.raises(SettingsError) as missing:
        read_providers_file(path, PROVIDERS)
    path.write_bytes(b"# a\n# \xff\n")
    with pytest.raises(SettingsError) as binary:
        read_providers_file(path, PROVIDERS)

    assert str(missing.value) == f"PROVIDERS_FILE: can't read {path}: No such file or directory"
    assert str(binary.value) == f"{path}, line 2: the file must be UTF-8"


@pytest.mark.parametrize(
    "argv", [["worker"], ["uvicorn", "api.main:app", "--port", "0"]], ids=["worker", "api"]
)
async def test_a_process_refuses_a_wrong_file(argv: list[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(GPU1 + f'api_key = "{SECRET}"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *argv),
        env=os.environ | {"REDIS_URL": "unix:///nowhere", "PROVIDERS_FILE": str(path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()

    text = output.decode()
    assert process.returncode not in {0, None}
    assert f"{path}, line 3: providers.gpu1.api_key: must not be in this file" in text
    assert "Traceback" not in text
    assert "verysecret" not in text


async def test_the_command_refuses_a_wrong_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "providers.toml").write_text("[providers.x]\n")

    code, output = await run(
        environment | {"PROVIDERS_FILE": "providers.toml"}, "up", "--port", "0", directory=tmp_path
    )

    assert (code, output) == (
        1,
        "orchestrator: wrong settings\nproviders.toml, line 1: providers.x: base_url is missing\n",
    )
