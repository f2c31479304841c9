"""Reads the version of this installation, which HTTP, metrics and `orchestrator --version` show."""

from importlib.metadata import version

VERSION = version("llm-batch-orchestrator")
