"""Faults of processes: stopped for a while, or killed."""

import asyncio
import signal

import psutil

from support.ledger import unsettled
from support.processes import Process
from support.stack import Stack, eventually


async def stop(worker: Process) -> None:
    """Stops the process as a debugger would (SIGSTOP); waits until it stands still."""
    worker.send_signal(signal.SIGSTOP)

    async def stopped() -> bool:
        return bool(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)

    await eventually(stopped)


async def kill(stack: Stack, *workers: Process) -> set[str]:
    """Kills the workers at the same moment; returns the items that they were running.

    They are stopped first, so that no call begins or ends between the count and the kill.
    """
    for worker in workers:
        await stop(worker)
    items = await unsettled(stack, *workers)
    for worker in workers:
        worker.kill()
    await asyncio.gather(*(worker.wait() for worker in workers))
    return items
