"""The version of this installation, as HTTP, metrics and `orchestrator --version` show it."""

from importlib.metadata import version

VERSION = version("llm-batch-orchestrator")
