"""Runs the simulator as a process. The first line of output ends with the simulator's URL."""

import argparse
import asyncio
import dataclasses
import os
import signal

import uvloop

from cli.simulator.behaviour import Behaviour, load_behaviour
from cli.simulator.server import Simulator


async def _serve(behaviour: Behaviour, host: str, port: int) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with Simulator(behaviour, host=host, port=port) as simulator:
        print(f"simulator listening on {simulator.url}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cli.simulator", description="Simulate LLM providers."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on; 0 (the default) selects a free port"
    )
    parser.add_argument(
        "--latency-ms", type=float, help="latency in ms; replaces latency_ms in --config"
    )
    parser.add_argument(
        "--config",
        default=os.environ.get("SIMULATOR_CONFIG") or "{}",
        help='behaviour as JSON, for example {"rate_429": 0.1}. Default: SIMULATOR_CONFIG',
    )
    options = parser.parse_args()
    try:
        behaviour = load_behaviour(options.config)
        if options.latency_ms is not None:
            behaviour = dataclasses.replace(behaviour, latency_ms=options.latency_ms)
    except ValueError as error:
        parser.error(str(error))
    uvloop.run(_serve(behaviour, options.host, options.port))


if __name__ == "__main__":
    main()
