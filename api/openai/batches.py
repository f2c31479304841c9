"""Serves the batches of OpenAI's API. Each batch is a job, and each job can be read as a batch."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from http import HTTPStatus

from api.disconnect import require_client
from api.errors.openai_errors import OpenAIError
from api.errors.validation_error import validation_error
from api.jobs.job_starter import JobStarter
from api.jobs.webhook_check import check_webhook
from api.openai.batch_object import batch_object
from api.openai.batch_schemas import Batch, BatchList, NewBatch
from api.openai.files import BATCH
from api.openai.request_check import RequestCheck
from api.openai.result_sums import Sums
from api.requests.vendor_line import MODEL_NOT_FOUND
from shared.dialects.dialect import Operation
from shared.files.errors import FileNotFound
from shared.files.store import FileStore
from shared.files.stored_file import StoredFile
from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_record import BatchRecord
from shared.jobs.batch_store import BatchNotFound, BatchStore
from shared.jobs.job_usage import JobUsage
from shared.jobs.new_item import NewItem
from shared.jobs.service import Jobs
from shared.jobs.submission import Submission
from shared.models import MAX_DEADLINE_S
from shared.providers import Catalogue
from shared.queue.ids import job_id_of
from shared.settings import Settings

MIN_WINDOW_S = 60
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OPERATIONS = {  # by the last part of the endpoint
    "completions": Operation.CHAT,
    "embeddings": Operation.EMBEDDINGS,
    "responses": Operation.RESPONSES,
}


class _FileHasMistakes(Exception):
    """The file has mistakes, which `RequestCheck.mistakes` lists."""


class OpenAIBatches:
    """Creates, reads and cancels batches. Raises RedisUnavailable, BatchNotFound, OpenAIError."""

    def __init__(
        self,
        files: FileStore,
        batches: BatchStore,
        jobs: Jobs,
        starter: JobStarter,
        settings: Settings,
        catalogue: Catalogue,
        sums: Sums,
    ) -> None:
        self._sums = sums
        self._files = files
        self._batches = batches
        self._jobs = jobs
        self._starter = starter
        self._settings = settings
        self._catalogue = catalogue

    async def create(
        self,
        new: NewBatch,
        owner: str,
        *,
        provider: str | None,
        key: str | None,
        is_repetition: bool,
        held: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]],
        wait_for_disconnect: Callable[[], Awaitable[None]],
    ) -> Batch:
        """Creates a batch whose requests may start immediately.

        If the file has mistakes, creates a batch with the status `failed`.

        provider: the provider of all requests; None if their models name it.
        is_repetition: whether the client sends the request again because it got no response. The
            request and its repetition return the same batch, whichever of them arrives first.
        key: the idempotency key; None if the client has sent no key.
        held: reserves memory for the chunks of the file.
        wait_for_disconnect: returns when the client has disconnected.

        Raises RequestValidationError, MemoryFull, and everything that `JobStarter.start` raises.
        After ClientDisconnected, nothing was created, because the client will repeat the request.
        But with a key, a batch without mistakes is created even if the client has disconnected.
        """
        file = await self._file(new.input_file_id, owner)
        details = BatchDetails(
            endpoint=new.endpoint,
            completion_window=new.completion_window,
            input_file_id=file.id,
            metadata=new.metadata,
            model=file.info.model,
        )
        use = sha256(f"{details.to_json()} {new.webhook_url} {provider}".encode()).hexdigest()
        last_use, _, seen = (file.used_by or "").partition(" ")
        if is_repetition and last_use == use and (earlier := await self._find(seen, owner)):
            return earlier
        submission = self._submission(
            new, owner, key, details, use, is_repetition=is_repetition, seen=seen or None
        )
        check = RequestCheck(
            self._settings,
            self._catalogue,
            provider=provider,
            operation=_OPERATIONS[new.endpoint.rpartition("/")[2]],
        )
        mistakes = file.info.mistakes
        # Unknown models are checked again: the providers may have changed since the upload, or only
        # this request names the provider.
        if all(mistake["code"] == MODEL_NOT_FOUND for mistake in mistakes):
            try:
                items = self._items(held(self._files.blocks(file)), check)
                job = await self._starter.start(
                    items, submission, wait_for_disconnect=wait_for_disconnect
                )
            except _FileHasMistakes:
                mistakes = [mistake.to_dict() for mistake in check.mistakes]
            else:
                return await self.get(job.job_id, owner)
        await require_client(wait_for_disconnect)
        job_id = await self._batches.reject(self._jobs.new_id(), details, submission, mistakes)
        return await self.get(job_id, owner)

    async def get(self, batch_id: str, owner: str) -> Batch:
        batch = await self._batches.get(job_id_of(batch_id), owner)
        usage = await self._batches.sum_usage(batch) if _lacks_usage(batch) else None
        return batch_object(_with_usage(batch, usage))

    async def list_batches(self, owner: str, *, after: str | None, limit: int) -> BatchList:
        """Returns a page of batches. `usage` is also None if its sum takes longer than WAIT_S."""
        found, has_more = await self._batches.list_batches(
            owner, after=after and job_id_of(after), limit=limit
        )
        usages = await self._sums.gather(
            {
                batch.job_id: partial(self._batches.sum_usage, batch)
                for batch in found
                if _lacks_usage(batch)
            }
        )
        data = [batch_object(_with_usage(batch, usages.get(batch.job_id))) for batch in found]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=has_more)

    async def cancel(self, batch_id: str, owner: str) -> Batch:
        """Cancels the batch. Its status is `cancelling` until the workers have stopped its calls.

        The response says `cancelling` if any calls ran before, even if the workers have stopped
        them already. Raises OpenAIError 400 if the batch has ended, unless it was cancelled.
        """
        job_id = job_id_of(batch_id)
        before = await self._batches.get(job_id, owner)
        status = batch_object(before).status
        if status not in {"in_progress", "cancelling", "cancelled"}:
            raise OpenAIError(
                HTTPStatus.BAD_REQUEST, f"a batch with the status {status!r} cannot be cancelled"
            )
        await self._jobs.cancel(job_id, owner)
        batch = await self.get(job_id, owner)
        snapshot = before.snapshot
        if (
            status == "in_progress"
            and batch.status == "cancelled"
            and snapshot is not None
            and snapshot.total > snapshot.finished + snapshot.queued
        ):
            return batch.model_copy(update={"status": "cancelling", "cancelled_at": None})
        return batch

    async def _file(self, file_id: str, owner: str) -> StoredFile:
        try:
            file = await self._files.get(file_id, owner)
        except FileNotFound:
            raise OpenAIError(
                HTTPStatus.NOT_FOUND,
                f"you have no uploaded file {file_id!r}, or it has expired",
                param="input_file_id",
            ) from None
        if file.info.purpose != BATCH:
            raise OpenAIError(
                HTTPStatus.BAD_REQUEST,
                f"the file has the purpose {file.info.purpose!r}; upload it with purpose 'batch'",
                param="input_file_id",
            )
        return file

    def _submission(
        self,
        new: NewBatch,
        owner: str,
        key: str | None,
        details: BatchDetails,
        use: str,
        *,
        is_repetition: bool,
        seen: str | None,
    ) -> Submission:
        window_s = _seconds(new.completion_window)
        if not MIN_WINDOW_S <= window_s <= MAX_DEADLINE_S:
            raise validation_error(
                "must be a time from 1m to 30d, such as 24h", "body", "completion_window"
            )
        expiry = new.output_expires_after
        check_webhook(new.webhook_url, self._settings)
        return Submission(
            owner=owner,
            deadline_s=window_s,
            webhook_url=new.webhook_url,
            idempotency_key=key,
            batch=details,
            file_use=use,
            file_seen=seen,
            is_repetition=is_repetition,
            result_ttl_s=expiry.seconds if expiry else None,
        )

    async def _items(
        self, chunks: AsyncIterator[bytes], check: RequestCheck
    ) -> AsyncIterator[NewItem]:
        async for item in check.items(chunks):
            yield item
        if check.mistakes:
            raise _FileHasMistakes

    async def _find(self, job_id: str, owner: str) -> Batch | None:
        try:
            return await self.get(job_id, owner)
        except BatchNotFound:
            return None


def _lacks_usage(batch: BatchRecord) -> bool:
    """Returns whether the batch has ended, but its usage has not been summed yet."""
    snapshot = batch.snapshot
    return not batch.usage and snapshot is not None and snapshot.finished_ms is not None


def _with_usage(batch: BatchRecord, usage: JobUsage | None) -> BatchRecord:
    return batch.with_usage(usage) if usage else batch


def _seconds(window: str) -> float:
    return timedelta(**{_UNITS[window[-1]]: int(window[:-1])}).total_seconds()
