"""Messages over Redis pub/sub. They only wake their readers: what a message says is in Redis, too.

A message may get lost, so every reader also looks for changes by itself from time to time.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

RECONNECT_S = 0.5
PING_AFTER_S = 5.0  # of silence; after as much silence again the connection is closed

log = structlog.get_logger()


async def listen(
    redis: Redis,
    handlers: Mapping[str, Callable[[str], None]],
    on_connected: Callable[[], None],
) -> None:
    """Calls `handlers[channel](message)` for each message, until cancelled.

    Reconnects when the connection is lost. `on_connected` is called after each connection: messages
    that were published before it may have been missed.
    """
    while True:
        try:
            async with redis.pubsub() as pubsub:
                async with asyncio.timeout(PING_AFTER_S):
                    await pubsub.subscribe(*handlers)
                await _dispatch(pubsub, handlers, on_connected)
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            log.warning("pubsub_disconnected", reason=reason, retry_in_s=RECONNECT_S)
            await asyncio.sleep(RECONNECT_S)


async def _dispatch(
    pubsub: PubSub, handlers: Mapping[str, Callable[[str], None]], on_connected: Callable[[], None]
) -> None:
    pinged = False
    while True:
        message = await pubsub.get_message(timeout=PING_AFTER_S)
        if message is None:
            if pinged:
                raise RedisConnectionError(f"no answer to a ping in {PING_AFTER_S:g} s")
            await pubsub.ping("alive")
            pinged = True
            continue
        pinged = False
        match message["type"]:
            case "message":
                handlers[message["channel"].decode()](message["data"].decode())
            case "subscribe":  # redis-py reconnects and subscribes again by itself, too
                on_connected()
