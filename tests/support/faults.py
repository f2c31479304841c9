"""Causes faults of processes: stops a process for some time, or kills it."""

import asyncio
import signal
import time

import psutil

from support.ledger import unsettled
from support.processes import Process
from support.stack import DEADLINE_S, Stack


def stop(worker: Process) -> None:
    """Stops the process with SIGSTOP, and waits until the process has stopped.

    Blocks the event loop meanwhile, so that no time is lost: the worker's leases expire soon.
    """
    worker.send_signal(signal.SIGSTOP)
    process = psutil.Process(worker.pid)
    until = time.monotonic() + DEADLINE_S
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < until
        time.sleep(0.001)


async def kill(stack: Stack, *workers: Process) -> set[str]:
    """Kills the workers at the same moment, and returns the items that the workers were running.

    The workers are stopped before they are killed, so that no call starts or ends after the items
    have been read.
    """
    for worker in workers:
        stop(worker)
    items = await unsettled(stack, *workers)
    for worker in workers:
        worker.kill()
    await asyncio.gather(*(worker.wait() for worker in workers))
    return items
