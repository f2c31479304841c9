"""Reads the version of this installation, which the API, the metrics and the CLI show."""

from importlib.metadata import version

VERSION = version("llm-batch-orchestrator")
