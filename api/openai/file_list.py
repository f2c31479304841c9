"""Lists uploaded files and the files of results together.

Files are ordered by the time of their upload, and files of results by the acceptance of their
batch. If these times are equal, the uploaded file is treated as the older file.
"""

from collections.abc import Sequence
from functools import partial
from heapq import merge
from itertools import islice

from api.openai.batch_schemas import FileList, FileObject
from api.openai.result_files import ResultFile, ResultFiles
from api.openai.result_sums import Sums
from api.openai.uploaded_file import described
from shared.files.store import FileStore
from shared.files.stored_file import StoredFile
from shared.jobs.batch_record import BatchRecord
from shared.jobs.batch_store import BatchStore
from shared.redis.time_index import Place

BATCH_OUTPUT = "batch_output"

_BEFORE_ALL, _AFTER_ALL = "", "~"  # texts that sort before and after all ids

_Entry = tuple[float, int, StoredFile | ResultFile]  # time in ms, 1 for a file of results


class FileLister:
    """Reads pages of files. Raises RedisUnavailable, FileNotFound."""

    def __init__(
        self, files: FileStore, batches: BatchStore, results: ResultFiles, sums: Sums
    ) -> None:
        self._files = files
        self._batches = batches
        self._results = results
        self._sums = sums

    async def page(
        self, owner: str, *, after: str | None, limit: int, newest_first: bool, purpose: str | None
    ) -> FileList:
        """Returns up to `limit` files after the file with the id `after`, or the first files.

        The size of a file of results is not known before the whole file has been read once. The
        list waits up to `WAIT_S` for the reads of its files. A read that takes longer continues in
        the background; until then, lists show the size 0.
        """
        cursor = await self._cursor(after, owner)
        uploaded: Sequence[_Entry] = ()
        results: Sequence[_Entry] = ()
        if purpose != BATCH_OUTPUT:
            found = await self._uploaded(
                owner, cursor, limit + 1, purpose, newest_first=newest_first
            )
            uploaded = [(file.created_ms, 0, file) for file in found]
        if purpose in {None, BATCH_OUTPUT}:
            of_batches = await self._of_results(owner, cursor, limit + 1, newest_first=newest_first)
            results = [(file.created_ms, 1, file) for file in of_batches]
        entries = list(
            islice(
                merge(uploaded, results, key=lambda entry: entry[:2], reverse=newest_first),
                limit + 1,
            )
        )
        data = await self._described([file for _, _, file in entries[:limit]])
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(entries) > limit)

    async def _cursor(self, after: str | None, owner: str) -> StoredFile | ResultFile | None:
        if after is None:
            return None
        found = await self._results.find(after, owner, with_deleted=True)
        return found or await self._files.get(after, owner)

    async def _uploaded(
        self,
        owner: str,
        cursor: StoredFile | ResultFile | None,
        count: int,
        purpose: str | None,
        *,
        newest_first: bool,
    ) -> list[StoredFile]:
        index, place = self._files.index(owner, newest_first=newest_first), None
        if isinstance(cursor, StoredFile):
            place = Place(cursor.created_ms, cursor.id)
        elif cursor:
            place = Place(cursor.created_ms, _AFTER_ALL)
        return await self._files.read_list(index, owner, place, count, purpose)

    async def _of_results(
        self, owner: str, cursor: StoredFile | ResultFile | None, count: int, *, newest_first: bool
    ) -> list[ResultFile]:
        index, place = self._batches.index(owner, newest_first=newest_first), None
        found: list[ResultFile] = []
        if isinstance(cursor, StoredFile):
            place = Place(cursor.created_ms, _BEFORE_ALL)
        elif cursor:
            place = Place(cursor.created_ms, cursor.batch.job_id)
            found = [
                file
                for file in self._files_of(cursor.batch, newest_first=newest_first)
                if file.comes_after(cursor, newest_first=newest_first)
            ]
        async for batch in self._batches.read_list(index, owner, place, count):
            found += self._files_of(batch, newest_first=newest_first)
            if len(found) >= count:
                break
        return found

    def _files_of(self, batch: BatchRecord, *, newest_first: bool) -> list[ResultFile]:
        files = self._results.files_of(batch)
        return files[::-1] if newest_first else files

    async def _described(self, files: Sequence[StoredFile | ResultFile]) -> list[FileObject]:
        sizes = await self._sums.gather(
            {
                file.id: partial(self._results.size, file)
                for file in files
                if isinstance(file, ResultFile) and file.known_size is None
            }
        )
        return [
            described(file)
            if isinstance(file, StoredFile)
            else self._results.described(file, file.known_size or sizes.get(file.id, 0))
            for file in files
        ]
