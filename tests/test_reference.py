"""Checks that `docs/reference/` has every setting, endpoint, option, metric and method."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import typer.main
from support.documents import PROJECT
from support.stack import Start, free_port

import orchestrator_client
from cli.main import app
from shared.providers import variable
from shared.settings import PROVIDER_SETTINGS, ProviderSettings, Settings

REFERENCE = PROJECT / "docs" / "reference"
_MODE = re.MULTILINE | re.DOTALL

# The section of the page, and the head of a table in it, that describe each schema.
_REQUEST, _ITEM, _JOB, _OVERVIEW = "A request", "An item", "A job", "The overview"
_OPENAI = "Files and batches of OpenAI's API"
_HEALTH = "`GET /overview` and the health checks"
SECTIONS: dict[str, tuple[str] | tuple[str, str]] = {
    "LLMRequest": (_REQUEST,),
    "Message": (_REQUEST,),
    "Role": (_REQUEST,),
    "BatchLLMRequest": ("A batch",),
    "BatchLLMResponse": ("A batch's response",),
    "LLMResponse": (_ITEM,),
    "JobItem": (_ITEM,),
    "Job": (_JOB,),
    "JobSummary": (_JOB,),
    "JobStatus": (_JOB,),
    "WebhookStatus": (_JOB,),
    "WebhookState": (_JOB,),
    "JobList": ("GET /jobs",),
    "RequestFormat": ("POST /jobs",),
    "ResultFormat": ("GET /jobs/{job_id}/results",),
    "Order": ("GET /jobs/{job_id}/results",),
    "OpenAIModel": ("OpenAI's API",),
    "OpenAIModels": ("OpenAI's API",),
    "OpenAIRefusal": ("OpenAI's API",),
    "OpenAIErrorDetail": ("OpenAI's API",),
    "FileDeleted": ("OpenAI's API",),
    "FileList": (_OPENAI,),
    "FileObject": (_OPENAI, "field of a file"),
    "ExpiresAfter": (_OPENAI, "field of a new batch"),
    "NewBatch": (_OPENAI, "field of a new batch"),
    "Batch": (_OPENAI, "field of a batch"),
    "BatchError": (_OPENAI, "field of a batch"),
    "BatchErrors": (_OPENAI, "field of a batch"),
    "BatchList": (_OPENAI,),
    "BatchUsage": (_OPENAI, "field of a batch"),
    "RequestCounts": (_OPENAI, "field of a batch"),
    "InputTokensDetails": (_OPENAI, "field of a batch"),
    "OutputTokensDetails": (_OPENAI, "field of a batch"),
    "Overview": (_OVERVIEW,),
    "Notice": (_OVERVIEW,),
    "Severity": (_OVERVIEW,),
    "Lane": (_OVERVIEW, "field of a lane"),
    "ModelStats": (_OVERVIEW, "field of a lane"),
    "UnhealthyDeployment": (_OVERVIEW, "field of a deployment"),
    "DeploymentState": (_OVERVIEW, "field of a deployment"),
    "WorkerView": (_OVERVIEW, "field of a worker"),
    "WorkerState": (_OVERVIEW, "field of a worker"),
    "History": ("The history",),
    "HistoryPoint": ("The history",),
    "LaneStats": ("The history",),
    "LanePoint": ("The history",),
    "Health": (_HEALTH,),
    "Readiness": (_HEALTH,),
    "DetailedReadiness": (_HEALTH,),
    "ErrorCode": ("Error codes",),
    "Refusal": ("Refusals",),
    "JsonValue": (_REQUEST,),
}


def test_the_settings_are_complete_and_have_their_defaults() -> None:
    defaults = _defaults()

    rows = re.findall(r"^\| `([A-Z_<>]+)` \| (.*?) \|", _reference("settings"), re.MULTILINE)

    assert {name: default.strip("`") for name, default in rows} == {
        name: _shown_default(default) for name, default in defaults.items()
    }


def test_every_setting_is_in_the_example_file() -> None:
    example = (PROJECT / ".env.example").read_text()

    assert [name for name in _defaults() if name not in example] == []


def _defaults() -> dict[str, object]:
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    of_each_provider = {"api_key", "base_url", "max_concurrent_requests", "timeout"}
    for name in PROVIDER_SETTINGS:
        providers = ["<NAME>"] if name != "http_referer" else ["openrouter"]
        if name in of_each_provider:
            providers += ["openrouter", "ollama"]
        for provider in providers:
            defaults[variable(provider, name)] = ProviderSettings.model_fields[name].default
    return defaults


def _shown_default(default: object) -> str:
    match default:
        case None | ():
            return "–"  # noqa: RUF001
        case bool():
            return str(default).lower()
        case Path():
            return str(default).replace(str(Path.home()), "~")
        case _:
            return str(default)


async def test_the_http_reference_has_every_endpoint(api: httpx.AsyncClient) -> None:
    text = _reference("http")
    refusals = _section(text, "Refusals")
    document = (await api.get("/openapi.json")).json()

    missing = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            endpoint = f"{method.upper()} {path}"
            section = _section(text, "Endpoints") + _section_of(text, endpoint)
            names = [parameter["name"] for parameter in operation.get("parameters", ())]
            missing += [
                (endpoint, name) for name in names if f"`{name}`".lower() not in section.lower()
            ]
            missing += [
                (endpoint, status)
                for status in operation["responses"]
                if not re.search(rf"\b{status}\b", section) and f"| {status} |" not in refusals
            ]
    assert missing == [], missing


async def test_the_http_reference_has_every_field(api: httpx.AsyncClient) -> None:
    text = _reference("http")
    schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]

    # FastAPI defines the models of ValidationError.
    assert {name for name in schemas if "ValidationError" not in name} == SECTIONS.keys()
    missing = []
    for name, place in SECTIONS.items():
        schema, section = schemas[name], _section(text, *place)
        words = (*schema.get("properties", ()), *schema.get("enum", ()))
        missing += [(name, word) for word in words if f"`{word}`" not in section]
    assert missing == [], missing


def _section_of(text: str, endpoint: str) -> str:
    """Returns the section with this endpoint in its heading, or in a table."""
    if f"### `{endpoint}`\n" in text:
        return _section(text, endpoint)
    [section] = [
        section
        for section in re.split(r"^#+ ", text, flags=re.MULTILINE)
        if f"| `{endpoint}` |" in section
    ]
    return section


def _section(text: str, heading: str, table: str = "") -> str:
    """Returns the section with this heading, or of the section the table with this head."""
    [section] = re.findall(rf"^#+ `?{re.escape(heading)}`?\n(.*?)(?=^#+ |\Z)", text, _MODE)
    if not table:
        return str(section)
    [rows] = re.findall(rf"^\| {table} \| \|\n((?:\|.*\n?)+)", section, re.MULTILINE)
    return str(rows)


def test_the_command_line_reference_is_complete() -> None:
    text = _reference("command-line")

    for name, command in _commands(typer.main.get_command(app), "orchestrator"):
        section = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, name
        options = {
            option
            for parameter in command.params
            if parameter.param_type_name == "option" and parameter.name != "help"
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(re.findall(r"`(--?[a-z][a-z-]*)", section[1])) == options, name


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the commands that do something without a subcommand, with their names. The type is Any
    because typer contains its own click and hides its types."""
    if not hasattr(command, "commands") or command.invoke_without_command:
        yield name, command
    if hasattr(command, "commands"):
        for child, nested in command.commands.items():
            yield from _commands(nested, f"{name} {child}")


async def test_the_metrics_reference_is_complete(stack: Start) -> None:
    """Compares the page with the metrics that the API and a worker expose."""
    port = free_port()
    deployment = await stack(workers=1, WORKER_METRICS_PORT=str(port))
    async with httpx.AsyncClient() as client:
        exposed = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    exposed += (await deployment.api.get("/metrics")).text
    families = re.findall(r"^# TYPE (\S+) \w+$", exposed, re.MULTILINE)
    text = _reference("metrics").partition("## Alerts")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == {
        name for name in families if not name.endswith("_created")
    }


def test_every_alert_is_in_the_metrics_reference() -> None:
    alerts = (PROJECT / "observability" / "alerts.yml").read_text()
    text = _reference("metrics").partition("## Alerts")[2]

    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == re.findall(
        r"- alert: (\w+)", alerts
    )


def test_the_client_reference_is_complete() -> None:
    text = _reference("python-client")
    client = orchestrator_client.Client

    for name, method in inspect.getmembers(client, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert f"`{name}(" in text, name
        for parameter in inspect.signature(method).parameters:
            assert parameter == "self" or f"`{parameter}`" in text, (name, parameter)
    for parameter in inspect.signature(client).parameters:
        assert f"`{parameter}`" in text, parameter
    for name in orchestrator_client.__all__:
        assert f"`{name}`" in text, name


def _reference(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()
