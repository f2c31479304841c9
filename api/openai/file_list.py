"""Lists uploaded files and the files of results together.

Files are ordered by the time of their upload, and files of results by the acceptance of their
batch. At the same time, the uploaded file is the older one.
"""

from collections.abc import Sequence
from functools import partial
from heapq import merge
from itertools import islice

from api.openai.batch_schemas import FileList, FileObject
from api.openai.result_files import ResultFile, ResultFiles
from api.openai.sums import Sums
from api.openai.uploaded_file import described
from shared.files.store import FileNotFound, FileStore, StoredFile
from shared.jobs.batch_store import BatchStore
from shared.redis.time_index import TimeIndex

BATCH_OUTPUT = "batch_output"

_Entry = tuple[float, int, StoredFile | ResultFile]  # time in ms, whether it is a file of results


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
        """Returns up to `limit` files after the file `after`. Raises FileNotFound without it.

        The size of a file of results is 0 until the file was read once. The list reads as many
        files as it can in `WAIT_S`.
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
        index = self._files.index(owner, newest_first=newest_first)
        match cursor:
            case None:
                position = 0
            case StoredFile():
                position = 1 + await _position(index, cursor.id, cursor.id)
            case ResultFile():
                position = await index.count_before(cursor.created_ms, including=not newest_first)
        return await self._files.read_list(index, owner, position, count, purpose)

    async def _of_results(
        self, owner: str, cursor: StoredFile | ResultFile | None, count: int, *, newest_first: bool
    ) -> list[ResultFile]:
        index = self._batches.index(owner, newest_first=newest_first)
        match cursor:
            case None:
                position = 0
            case StoredFile():
                position = await index.count_before(cursor.created_ms, including=newest_first)
            case ResultFile():
                position = await _position(index, cursor.batch.job_id, cursor.id)
        found: list[ResultFile] = []
        async for batch in self._batches.read_list(index, owner, position, count):
            files = self._results.files_of(batch)
            if newest_first:
                files.reverse()
            if isinstance(cursor, ResultFile) and batch.job_id == cursor.batch.job_id:
                files = [
                    file for file in files if file.comes_after(cursor, newest_first=newest_first)
                ]
            found += files
            if len(found) >= count:
                break
        return found

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


async def _position(index: TimeIndex, member: str, file_id: str) -> int:
    """Raises FileNotFound if the file was deleted, or its batch has expired, a moment ago."""
    position = await index.position(member)
    if position is None:
        raise FileNotFound(file_id)
    return position
