"""Runs the simulator as the provider that all systems call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from benchmarks.processes import Processes


class Provider:
    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OPENROUTER_BASE_URL": f"{self.url}/api/v1",
            "OPENROUTER_API_KEY": "simulated",
            "OLLAMA_BASE_URL": self.url,
        }

    def behave(self, **behaviour: Any) -> None:  # noqa: ANN401 — JSON
        """Changes the provider's behaviour, and resets the provider's statistics."""
        self.change(**behaviour)
        self._client.post("/_sim/reset").raise_for_status()

    def change(self, **behaviour: Any) -> None:  # noqa: ANN401 — JSON
        """Changes the provider's behaviour while a system runs."""
        self._client.put("/_sim/config", json={"ledger": False, **behaviour}).raise_for_status()

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._client.get("/_sim/stats").json()
        return stats


@asynccontextmanager
async def simulated_provider() -> AsyncIterator[Provider]:
    processes = Processes({})
    try:
        pid = await processes.start("provider", "cli.simulator", stdout=asyncio.subprocess.PIPE)
        yield Provider((await processes.first_line(pid)).split()[-1])
    finally:
        await processes.stop_all()
