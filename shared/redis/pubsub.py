"""Receives messages over Redis pub/sub.

A message only wakes its readers: its information is also stored in Redis. Messages can be lost, so
every reader also looks for changes without a message at regular intervals.
"""

import asyncio
from collections.abc import Callable, Mapping

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from shared.redis.client import outage_log

RECONNECT_S = 0.5  # longer than RETRY_INTERVAL_S, because readers also look without a message
PING_AFTER_S = (
    5.0  # time without a message; 5 s after a ping without an answer, the connection is closed
)


async def listen(
    redis: Redis,
    handlers: Mapping[str, Callable[[str], None]],
    on_connected: Callable[[], None],
) -> None:
    """Calls `handlers[channel](message)` for each message, until cancelled.

    Reconnects when the connection is lost. Calls `on_connected` after each new connection, because
    messages that were published before this moment may be lost.
    """
    while True:
        try:
            async with redis.pubsub() as pubsub:
                async with asyncio.timeout(PING_AFTER_S):
                    await pubsub.subscribe(*handlers)
                await _dispatch(pubsub, handlers, on_connected)
        except (RedisError, OSError) as error:
            if outages := outage_log(redis):
                outages.failed(str(error) or type(error).__name__)
            await asyncio.sleep(RECONNECT_S)


async def _dispatch(
    pubsub: PubSub, handlers: Mapping[str, Callable[[str], None]], on_connected: Callable[[], None]
) -> None:
    pinged = False
    while True:
        message = await pubsub.get_message(timeout=PING_AFTER_S)
        if message is None:
            if pinged:
                raise RedisConnectionError(f"Redis did not answer a ping in {PING_AFTER_S:g} s")
            await pubsub.ping("alive")
            pinged = True
            continue
        pinged = False
        match message["type"]:
            case "message":
                handlers[message["channel"].decode()](message["data"].decode())
            case "subscribe":
                # This message also comes if redis-py has reconnected without an error.
                on_connected()
