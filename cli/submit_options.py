"""Defines the options of `orchestrator submit` that no other command has."""

from typing import Annotated

import typer

from cli.options import INPUT, JOB
from orchestrator_client import RequestFormat

InputFile = Annotated[
    str, typer.Argument(metavar="FILE", help="File with requests or prompts; '-' for stdin.")
]
DefaultProvider = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Provider of the prompts, or of requests in a vendor's format.",
        rich_help_panel=INPUT,
    ),
]
DefaultModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Model of the prompts, or of requests in a vendor's format, whose own model it"
        " replaces.",
        rich_help_panel=INPUT,
    ),
]
SystemMessage = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="System message for each prompt.", rich_help_panel=INPUT),
]
PromptField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of a CSV or TSV file, or field of JSON lines, that contains the prompts.",
        rich_help_panel=INPUT,
    ),
]
IdField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column or field that becomes the request_id of the results. Needs --field.",
        rich_help_panel=INPUT,
    ),
]
RequestsFormat = Annotated[
    RequestFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format of the requests: native, openai-batch, openai, anthropic-batch, anthropic,"
        " gemini-batch or gemini. Default: the first request decides.",
        rich_help_panel=INPUT,
    ),
]
SubmissionKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Idempotency key. Default: derived from the requests and options.",
        rich_help_panel=JOB,
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Time limit. Requests that have not finished by then fail.",
        rich_help_panel=JOB,
    ),
]
EndWebhook = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="URL that receives a POST at the end of the job.",
        rich_help_panel=JOB,
    ),
]
AsLines = Annotated[
    bool,
    typer.Option(
        "--lines",
        help="Send each line as a prompt, whatever the lines look like.",
        rich_help_panel=INPUT,
    ),
]
NewJob = Annotated[
    bool,
    typer.Option(
        "--new",
        help="Create a new job, even for requests submitted before.",
        rich_help_panel=JOB,
    ),
]
