"""Presents the results of a job as the two files of a batch: the answers and the errors."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum

from api.openai.batch_schemas import FileObject
from api.streams.result_stream import ResultStream, filter_items
from api.streams.stream_formats import encode_pages
from api.streams.vendor_results import openai_format
from shared.files.errors import FileNotFound
from shared.jobs.batch_record import BatchRecord
from shared.jobs.batch_store import BatchNotFound, BatchStore
from shared.jobs.result_reader import JobReader, Order
from shared.jobs.snapshot import Snapshot
from shared.jobs.store import Store
from shared.models import JobItem


class ResultFileKind(StrEnum):
    OUTPUT = "output"
    ERRORS = "errors"


_ID = re.compile(r"file-(.+)-(output|errors)")
_KEEP: dict[ResultFileKind, Callable[[JobItem], bool]] = {
    ResultFileKind.OUTPUT: lambda item: item.error is None,
    ResultFileKind.ERRORS: lambda item: item.error is not None,
}


def result_file_id(job_id: str, kind: ResultFileKind) -> str:
    return f"file-{job_id}-{kind}"


def line_counts(snapshot: Snapshot) -> dict[ResultFileKind, int]:
    answered = snapshot.finished - snapshot.failed
    has_ended = snapshot.finished_ms is not None
    return {
        ResultFileKind.OUTPUT: answered,
        ResultFileKind.ERRORS: snapshot.total - answered if has_ended else snapshot.failed,
    }


def existing_file_id(batch: BatchRecord, kind: ResultFileKind) -> str | None:
    """Returns the id of a file; None if the file would be empty, or the batch has not ended."""
    snapshot = batch.snapshot
    if snapshot is None or snapshot.finished_ms is None or not line_counts(snapshot)[kind]:
        return None
    return result_file_id(batch.job_id, kind)


@dataclass(frozen=True, slots=True)
class ResultFile:
    batch: BatchRecord
    snapshot: Snapshot
    kind: ResultFileKind

    @property
    def id(self) -> str:
        return result_file_id(self.batch.job_id, self.kind)

    @property
    def is_complete(self) -> bool:
        return self.snapshot.finished_ms is not None

    @property
    def created_ms(self) -> float:
        """Returns the time of the batch's acceptance: from then on, the file can be read."""
        return self.batch.accepted_ms

    @property
    def known_size(self) -> int | None:
        return self.batch.file_bytes.get(self.kind)

    def comes_after(self, other: "ResultFile", *, newest_first: bool) -> bool:
        """Returns whether this file comes after another file of the same batch in lists."""
        kinds = list(ResultFileKind)
        distance = kinds.index(self.kind) - kinds.index(other.kind)
        return distance < 0 if newest_first else distance > 0


class ResultFiles:
    """Finds and reads files of results. Raises RedisUnavailable, FileNotFound."""

    def __init__(
        self, batches: BatchStore, store: Store, stream: ResultStream, *, result_ttl_s: int
    ) -> None:
        self._batches = batches
        self._store = store
        self._stream = stream
        self._result_ttl_s = result_ttl_s

    async def find(
        self, file_id: str, owner: str, *, with_deleted: bool = False
    ) -> ResultFile | None:
        """Returns the file of results with this id; None if the id is not of a file of results.

        While the job runs, both files exist. Raises FileNotFound if the owner has no such job, or
        the job has ended and the file has no lines.

        with_deleted: whether a file that the owner has deleted is found, too.
        """
        match = _ID.fullmatch(file_id)
        if match is None:
            return None
        kind = ResultFileKind(match[2])
        try:
            batch = await self._batches.get(match[1], owner)
        except BatchNotFound:
            raise FileNotFound(file_id) from None
        snapshot = batch.snapshot
        if snapshot is None or (kind in batch.deleted_files and not with_deleted):
            raise FileNotFound(file_id)
        if snapshot.finished_ms is not None and not line_counts(snapshot)[kind]:
            raise FileNotFound(file_id)
        return ResultFile(batch, snapshot, kind)

    def files_of(self, batch: BatchRecord) -> list[ResultFile]:
        """Returns the files of a batch, without deleted files; none until the batch has ended."""
        return [
            ResultFile(batch, batch.snapshot, kind)
            for kind in ResultFileKind
            if batch.snapshot and kind not in batch.deleted_files and existing_file_id(batch, kind)
        ]

    async def size(self, file: ResultFile) -> int:
        """Returns the number of bytes. Reads the whole file if the size is not known yet.

        Stores the size if the job has ended.
        """
        if file.known_size is not None:
            return file.known_size
        size = 0
        async for chunk in self.chunks(file):
            size += len(chunk)
        if file.is_complete:
            await self._batches.store_file_bytes(file.batch, file.kind, size)
        return size

    def described(self, file: ResultFile, size: int) -> FileObject:
        ended_ms = file.snapshot.finished_ms
        return FileObject(
            id=file.id,
            bytes=size,
            created_at=int(file.created_ms / 1000),
            expires_at=int(ended_ms / 1000) + self._ttl_s(file.batch) if ended_ms else None,
            filename=f"{file.batch.job_id}_{file.kind}.jsonl",
            purpose="batch_output",
        )

    async def delete(self, file: ResultFile) -> None:
        await self._batches.delete_file(file.batch, file.kind)

    def chunks(self, file: ResultFile) -> AsyncIterator[bytes]:
        """Returns the lines of the requests that have finished.

        They have the order of the requests if the job has ended, otherwise the order of completion.
        """
        reader = JobReader(
            self._store,
            file.batch.job_id,
            file.snapshot.owner,
            order=Order.INDEX if file.is_complete else Order.COMPLETION,
            position=0,
        )
        pages = filter_items(
            self._stream.finished_pages(reader), _KEEP[file.kind], limit=None, content=True
        )
        return encode_pages(pages, openai_format(file.batch.job_id, file.snapshot.format))

    def _ttl_s(self, batch: BatchRecord) -> int:
        return batch.result_ttl_s or self._result_ttl_s
