"""Reads the logs of a deployment's processes."""

import asyncio
from typing import IO

from support.stack import Stack


async def log_of(deployment: Stack, output: IO[bytes]) -> bytes:
    """Stops the API and the workers with SIGTERM, and returns everything they wrote to `output`."""
    processes = [deployment.api_process, *deployment.workers]
    for process in processes:
        if process.returncode is None:
            process.terminate()
    await asyncio.gather(*(process.wait() for process in processes))
    output.seek(0)
    return output.read()
