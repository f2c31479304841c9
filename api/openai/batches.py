"""Serves the batches of OpenAI's API. A batch is a job, and a job is a batch."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus

from api.batches import Batches as Submissions
from api.errors import validation_error
from api.openai.batch_object import batch_object
from api.openai.batch_schemas import Batch, BatchList, NewBatch
from api.openai.errors import OpenAIError
from api.openai.files import BATCH
from api.openai.request_check import RequestCheck
from api.requests.vendor_line import MODEL_NOT_FOUND
from api.submissions import new_submission
from shared.dialects.dialect import Operation
from shared.files.store import FileNotFound, FileStore, StoredFile
from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_store import BatchNotFound, BatchRecord, BatchStore
from shared.jobs.new_item import NewItem
from shared.jobs.service import Jobs
from shared.jobs.submission import Submission
from shared.models import MAX_DEADLINE_S, JobOptions
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
    """The lines of a file cannot be accepted."""


class Batches:
    """Creates, reads and cancels batches. Raises RedisUnavailable, BatchNotFound, OpenAIError."""

    def __init__(
        self,
        files: FileStore,
        batches: BatchStore,
        jobs: Jobs,
        submissions: Submissions,
        settings: Settings,
        catalogue: Catalogue,
    ) -> None:
        self._files = files
        self._batches = batches
        self._jobs = jobs
        self._submissions = submissions
        self._settings = settings
        self._catalogue = catalogue

    async def create(
        self,
        new: NewBatch,
        owner: str,
        *,
        provider: str | None,
        key: str | None,
        is_repeated: bool,
        held: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]],
    ) -> Batch:
        """Creates a batch whose requests may run at once, or a batch that has failed.

        provider: the provider of all requests; None if their models name it.
        is_repeated: whether the client sends the request again because it got no response. Then
        the batch that the first request created is returned.
        held: reserves memory for the chunks of the file. Raises SubmissionRejected.
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
        submission = self._submission(new, owner, key, details, use, is_repeated=is_repeated)
        if is_repeated and (earlier := await self._earlier(file, owner, use)):
            return batch_object(earlier)
        check = RequestCheck(
            self._settings,
            self._catalogue,
            provider=provider,
            operation=_OPERATIONS[new.endpoint.rpartition("/")[2]],
        )
        mistakes = file.info.mistakes
        # The providers may have changed since the upload, or the upload did not name the provider.
        if all(mistake["code"] == MODEL_NOT_FOUND for mistake in mistakes):
            try:
                items = self._items(held(self._files.blocks(file)), check)
                job = await self._submissions.start(items, submission)
            except _FileHasMistakes:
                mistakes = [mistake.to_dict() for mistake in check.mistakes]
            else:
                return batch_object(await self._batches.get(job.job_id, owner))
        job_id = self._jobs.new_id()
        await self._batches.reject(job_id, owner, details, mistakes)
        return batch_object(await self._batches.get(job_id, owner))

    async def get(self, batch_id: str, owner: str) -> Batch:
        batch = await self._batches.get(job_id_of(batch_id), owner)
        return batch_object(await self._with_usage(batch))

    async def list_batches(self, owner: str, *, after: str | None, limit: int) -> BatchList:
        """Returns a page of batches. The usage of a batch is null until the batch was read once."""
        found, has_more = await self._batches.list_batches(
            owner, after=after and job_id_of(after), limit=limit
        )
        data = [batch_object(batch) for batch in found]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=has_more)

    async def cancel(self, batch_id: str, owner: str) -> Batch:
        """Cancels the batch. Its status is `cancelling` until the workers have stopped its calls.

        The response says `cancelling` if any calls ran, also if the workers were faster.
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
        is_repeated: bool,
    ) -> Submission:
        window_s = _seconds(new.completion_window)
        if not MIN_WINDOW_S <= window_s <= MAX_DEADLINE_S:
            raise validation_error(
                "must be a time from 1m to 30d, such as 24h", "body", "completion_window"
            )
        expiry = new.output_expires_after
        return new_submission(
            self._settings,
            owner,
            options=JobOptions(deadline_s=window_s, webhook_url=new.webhook_url),
            key=key,
            batch=details,
            file_use=use,
            is_repetition=is_repeated,
            result_ttl_s=expiry.seconds if expiry else None,
        )

    async def _items(
        self, chunks: AsyncIterator[bytes], check: RequestCheck
    ) -> AsyncIterator[NewItem]:
        async for item in check.items(chunks):
            yield item
        if check.mistakes:
            raise _FileHasMistakes

    async def _earlier(self, file: StoredFile, owner: str, use: str) -> BatchRecord | None:
        """Returns the last batch of the file if it was created by an equal request."""
        last_use, _, job_id = (file.used_by or "").partition(" ")
        if last_use != use:
            return None
        try:
            return await self._batches.get(job_id, owner)
        except BatchNotFound:
            return None

    async def _with_usage(self, batch: BatchRecord) -> BatchRecord:
        snapshot = batch.snapshot
        if batch.usage or snapshot is None or snapshot.finished_ms is None:
            return batch
        return batch.with_usage(await self._batches.sum_usage(batch))


def _seconds(window: str) -> float:
    return timedelta(**{_UNITS[window[-1]]: int(window[:-1])}).total_seconds()
