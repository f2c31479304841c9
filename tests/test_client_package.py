"""Tests the package orchestrator_client alone, without an API and a worker."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pydantic import BaseModel

import orchestrator_client
from orchestrator_client.models import JobItem, JobList, JobSummary
from orchestrator_client.request_lines import Request, choose_idempotency_key
from shared import models as server
from shared.monitoring import models as monitoring

PROJECT = Path(__file__).parent.parent
IMPORT_ALONE = """
import sys
sys.path.extend(sys.argv[1:])
import orchestrator_client
orchestrator_client.Client("http://localhost:9").close()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def requirements_of(name: str) -> set[str]:
    """Returns the names of the distribution and of all its dependencies, without extras."""
    needed = {name}
    for requirement in distribution(name).requires or ():
        match = re.match(r"[\w.-]+", requirement)
        assert match
        if "extra ==" not in requirement and not re.search(r"python_version\s*<", requirement):
            needed |= requirements_of(match[0])
    return needed


def test_it_can_be_installed_alone(tmp_path: Path) -> None:
    """Tests that its dependencies are complete, and that it imports no package of the server."""
    project = tomllib.loads((PROJECT / "client" / "pyproject.toml").read_text())["project"]
    declared = [re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]]
    for name in set[str]().union(*map(requirements_of, declared)):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top != ".." and not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(Path(str(distribution(name).locate_file(top))))

    done = subprocess.run(
        (sys.executable, "-I", "-S", "-c", IMPORT_ALONE, str(PROJECT / "client"), str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    imported = set(done.stdout.split())
    assert {"orchestrator_client", "httpx", "pydantic"} <= imported
    assert declared == ["httpx", "pydantic"]


def test_it_has_the_version_of_the_project() -> None:
    versions = {
        tomllib.loads(path.read_text())["project"]["version"]
        for path in (PROJECT / "pyproject.toml", PROJECT / "client" / "pyproject.toml")
    }

    assert len(versions) == 1


@pytest.mark.parametrize("name", ["BatchLLMResponse", "Job", "JobItem", "JobList", "JobSummary"])
def test_its_models_have_the_fields_of_the_api(name: str) -> None:
    known = fields(getattr(server, name))
    assert fields(getattr(orchestrator_client.models, name)) == [
        field
        for field in known
        if field not in {"status_code", "refusal"}  # they are never in the JSON
    ]


@pytest.mark.parametrize("name", ["Lane", "LaneStats", "ModelStats", "Notice", "Overview"])
def test_its_models_of_the_overview_have_the_fields_of_the_api(name: str) -> None:
    assert fields(getattr(orchestrator_client, name)) == fields(getattr(monitoring, name))


def fields(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def test_responses_of_a_later_version_can_be_read() -> None:
    """Tests responses with fields and values that this version does not know."""
    item = {
        "request_id": None,
        "provider": "new",
        "model": "m",
        "content": "",
        "index": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "latency_ms": 1.5,
        "timestamp": "2026-01-01T00:00:00Z",
        "error": "e",
        "error_code": "new_code",
        "attempts": 1,
        "queued_ms": 0.1,
        "retried_ms": 0,
        "cursor": 1,
        "new_field": {"a": [1]},
    }
    job = {
        "job_id": "j",
        "owner": "",
        "status": "new_status",
        "total_requests": 1,
        "queued": 0,
        "providers": {"new": 1},
        "running": 0,
        "successful": 1,
        "failed": 0,
        "new_field": 1,
        "accepted_at": "2026-01-01T00:00:00Z",
    }

    read = JobItem.model_validate_json(json.dumps(item))
    jobs = JobList.model_validate_json(json.dumps({"jobs": [job], "new_field": None}))

    assert (read.error_code, read.finish_reason) == ("new_code", None)
    assert jobs.jobs == [JobSummary.model_validate(job)]
    assert jobs.jobs[0].status == "new_status"


# Derived idempotency keys: which differences between requests matter


class _Prompt(BaseModel):
    model: str
    text: str


def key(*requests: Request, **options: float | str) -> str:
    return choose_idempotency_key(requests, key=None, new=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        {"text": "é", "model": "m"},
        _Prompt(model="m", text="é"),
        b'{"model":"m","text":"\xc3\xa9"}',
        b' {"text": "\\u00e9",\t"model": "m"} \r\n',
    ],
)
def test_the_same_request_has_the_same_key_in_each_form(request_: Request) -> None:
    assert key(request_) == key({"model": "m", "text": "é"})


def test_other_requests_and_options_have_other_keys() -> None:
    keys = [
        key({"a": 1}),
        key({"a": 1.5}),
        key({"a": "1"}),
        key({"a": 1}, {"a": 1}),
        key({"a": 1}, {"b": 1}),
        key({"b": 1}, {"a": 1}),
        key({"a": 1}, deadline_s=60),
        key({"a": 1}, webhook_url="https://example.com"),
        key(b"not JSON"),
    ]

    assert len(set(keys)) == len(keys)
    assert key({"a": 1}, deadline_s=60) == key({"a": 1}, b"", deadline_s=60.0)
    assert all(re.fullmatch(r"requests-[0-9a-f]{64}", found) for found in keys)


@pytest.mark.parametrize("wrong", ["text", 1, ["a"]])
def test_a_request_of_a_wrong_type_is_named(wrong: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
        key(wrong)  # type: ignore[arg-type]
