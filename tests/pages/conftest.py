"""Provides one browser for the tests of all pages. They and their fixtures run in one loop."""

from collections.abc import AsyncIterator

import pytest_asyncio
from arq.connections import ArqRedis
from playwright.async_api import Browser
from support.browser import open_browser
from support.redis_server import Server, running_server
from support.stack import Start, stacks

from shared.queue.redis_keys import Keys
from shared.redis.client import connect


@pytest_asyncio.fixture(loop_scope="package")
async def stack(valkey_url: str, keys: Keys) -> AsyncIterator[Start]:
    async with stacks(valkey_url, keys) as start:
        yield start


@pytest_asyncio.fixture(loop_scope="package")
async def redis(valkey_url: str) -> AsyncIterator[ArqRedis]:
    client = connect(valkey_url)
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="package")
async def server() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as browser:
        yield browser
