"""Defines the arguments and options that several commands have."""

from typing import Annotated

import typer

from orchestrator_client import ResultFormat

INPUT, RESULTS, JOB, OUTPUT = "Input", "Results", "Job", "Output"  # panels of the help

JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="ID of the job, or its first characters.")
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON for scripts, with one object per line.", rich_help_panel=OUTPUT
    ),
]
ResultsFile = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="File for the results, one JSON object per line; '-' for stdout.",
        rich_help_panel=RESULTS,
    ),
]
ResultsFormat = Annotated[
    ResultFormat | None,
    typer.Option(
        "--output-format",
        metavar="FORMAT",
        help="Format of the results: native, openai, anthropic or gemini."
        " Default: the format of the requests.",
        rich_help_panel=RESULTS,
    ),
]
Wait = Annotated[bool, typer.Option(help="Wait until the job has ended.", rich_help_panel=OUTPUT)]
