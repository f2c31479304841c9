"""Holds the objects that the routes under `/v1` use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from api.jobs.job_starter import JobStarter
from api.openai.answer_stream import AnswerStream
from api.openai.batches import OpenAIBatches
from api.openai.file_list import FileLister
from api.openai.files import OpenAIFiles
from api.openai.live_call import LiveCalls
from api.openai.model_list import ModelList
from api.openai.result_files import ResultFiles
from api.openai.result_sums import Sums
from api.streams.job_updates import JobUpdates
from api.streams.result_stream import ResultStream
from shared.files.store import FileStore
from shared.files.upload import FileLimits
from shared.jobs.batch_store import BatchStore
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.providers import Catalogue
from shared.queue.deltas import Deltas
from shared.queue.redis_keys import Keys
from shared.redis.memory import RedisMemory
from shared.settings import ProviderSettings, Settings


@dataclass(frozen=True, slots=True)
class OpenAIServices:
    files: OpenAIFiles
    file_lister: FileLister
    batches: OpenAIBatches
    models: ModelList
    live_calls: LiveCalls


def openai_services(
    redis: Redis,
    keys: Keys,
    memory: RedisMemory,
    settings: Settings,
    catalogue: Catalogue,
    *,
    store: Store,
    jobs: Jobs,
    starter: JobStarter,
    stream: ResultStream,
    updates: JobUpdates,
    sums: Sums,
    providers: Mapping[str, ProviderSettings],
) -> OpenAIServices:
    ttl_s = settings.result_ttl_seconds
    limits = FileLimits(settings.max_stored_file_bytes, settings.max_queue_bytes)
    files = FileStore(redis, keys, limits, memory)
    batches = BatchStore(redis, keys, store, result_ttl_s=ttl_s)
    results = ResultFiles(batches, store, stream, result_ttl_s=ttl_s)
    return OpenAIServices(
        files=OpenAIFiles(files, results, settings, catalogue),
        file_lister=FileLister(files, batches, results, sums),
        batches=OpenAIBatches(files, batches, jobs, starter, settings, catalogue, sums),
        models=ModelList(catalogue, providers),
        live_calls=LiveCalls(
            settings,
            catalogue,
            starter,
            stream,
            partial(AnswerStream, Deltas(redis, keys), updates),
        ),
    )
