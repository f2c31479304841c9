"""Messages over Redis pub/sub: a wake-up, never the only way to learn something."""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

RECONNECT_S = 0.5
SILENCE_S = 5.0  # then a ping; as much silence again, and the connection is given up

log = structlog.get_logger()


async def listen(
    redis: Redis,
    handlers: Mapping[str, Callable[[str], None]],
    on_connected: Callable[[], None],
) -> None:
    """Runs until cancelled. `on_connected` is called after each (re)connection: whatever was
    published before it may have been missed."""
    while True:
        try:
            async with redis.pubsub() as pubsub:
                async with asyncio.timeout(SILENCE_S):
                    await pubsub.subscribe(*handlers)
                await _dispatch(pubsub, handlers, on_connected)
        except (RedisError, OSError) as error:
            log.warning("channel_lost", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)


async def _dispatch(
    pubsub: PubSub, handlers: Mapping[str, Callable[[str], None]], on_connected: Callable[[], None]
) -> None:
    pinged = False
    while True:
        message = await pubsub.get_message(timeout=SILENCE_S)
        if message is None:
            if pinged:
                raise RedisConnectionError("no answer to a ping")
            await pubsub.ping("alive")
            pinged = True
            continue
        pinged = False
        match message["type"]:
            case "message":
                handlers[message["channel"].decode()](message["data"].decode())
            case "subscribe":  # also after a reconnection that redis-py made by itself
                on_connected()
