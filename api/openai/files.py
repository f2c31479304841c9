"""Serves the files of OpenAI's API: uploaded files, and the results of batches as files."""

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import get_args

from pydantic import ValidationError

from api.errors.openai_errors import OpenAIError, validation_refusal
from api.openai.batch_schemas import (
    ExpiresAfter,
    FileDeleted,
    FileObject,
    Purpose,
)
from api.openai.multipart import FILE, UploadForm
from api.openai.request_check import RequestCheck
from api.openai.result_files import ResultFiles
from api.openai.uploaded_file import described
from api.streams.result_stream import StreamInterrupted
from api.streams.stream_response import StreamResponse
from shared.files.errors import FileNotFound
from shared.files.store import FileStore
from shared.files.stored_file import FileInfo, StoredFile
from shared.files.upload import FileUpload, Repetition
from shared.providers import Catalogue
from shared.settings import Settings

OCTETS = "application/octet-stream"
BATCH = "batch"
_FIELDS = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}


class OpenAIFiles:
    """Stores, reads and deletes files. Raises RedisUnavailable, FileNotFound, OpenAIError."""

    def __init__(
        self, files: FileStore, results: ResultFiles, settings: Settings, catalogue: Catalogue
    ) -> None:
        self._files = files
        self._results = results
        self._settings = settings
        self._catalogue = catalogue

    async def upload(
        self,
        form: UploadForm,
        owner: str,
        provider: str | None,
        repetition: Repetition,
        require_client: Callable[[], Awaitable[None]],
    ) -> FileObject:
        """Stores the file of the form. A file with mistakes is stored, too.

        Raises FileRejected, QueueBytesFull, IdempotencyConflict, ClientDisconnected.

        repetition: says how an earlier, equal upload is found. If there is one, its file is
            returned, and nothing is stored.
        require_client: raises ClientDisconnected if the client has disconnected. Then the file is
            discarded, because the client will repeat the upload.
        """
        async with self._files.upload(owner) as upload:
            check = RequestCheck(self._settings, self._catalogue, provider=provider)
            chunks = self._stored(form.file_chunks(), upload)
            async for _ in check.items(chunks):
                pass
            async for _ in chunks:  # stores the rest, if the check has ended early
                pass
            purpose = _purpose(form.fields)
            is_batch = purpose == BATCH
            info = FileInfo(
                filename=form.filename or "",
                purpose=purpose,
                size=upload.size,
                requests=check.count if is_batch else 0,
                model=check.model if is_batch else None,
                mistakes=[m.to_dict() for m in check.mistakes] if is_batch else (),
            )
            await require_client()
            await upload.commit(info, self._ttl_s(form.fields), repetition)
        return described(await self._files.get(upload.id, owner))

    async def get(self, file_id: str, owner: str) -> FileObject:
        if results := await self._results.find(file_id, owner):
            return self._results.described(results, await self._results.size(results))
        return described(await self._files.get(file_id, owner))

    async def content(self, file_id: str, owner: str) -> StreamResponse:
        if results := await self._results.find(file_id, owner):
            headers = {} if results.is_complete else {"X-Incomplete": "true"}
            return StreamResponse(self._results.chunks(results), OCTETS, headers=headers)
        file = await self._files.get(file_id, owner)
        headers = {"Content-Length": str(file.info.size)}
        return StreamResponse(self._content(file), OCTETS, headers=headers)

    async def delete(self, file_id: str, owner: str) -> FileDeleted:
        if results := await self._results.find(file_id, owner):
            await self._results.delete(results)
        else:
            await self._files.delete(file_id, owner)
        return FileDeleted(id=file_id)

    async def _stored(
        self, chunks: AsyncIterator[bytes], upload: FileUpload
    ) -> AsyncIterator[bytes]:
        limit = self._settings.max_file_bytes
        async for chunk in chunks:
            if upload.size + len(chunk) > limit:
                raise OpenAIError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"the file is larger than {limit} bytes (MAX_FILE_BYTES)",
                    param=FILE,
                    headers={"Connection": "close"},
                )
            await upload.add(chunk)
            yield chunk

    async def _content(self, file: StoredFile) -> AsyncIterator[bytes]:
        try:
            async for block in self._files.blocks(file):
                yield block
        except FileNotFound:
            raise StreamInterrupted("the file was deleted") from None

    def _ttl_s(self, fields: dict[str, str]) -> int:
        parts = {
            part: fields[name]
            for part in ("anchor", "seconds")
            if (name := f"expires_after[{part}]") in fields
        }
        if not parts:
            return self._settings.file_ttl_seconds
        try:
            expiry = ExpiresAfter.model_validate_strings(parts)
        except ValidationError as error:
            details = [
                {**detail, "loc": ("expires_after", *detail["loc"])} for detail in error.errors()
            ]
            raise validation_refusal(details) from None
        return expiry.seconds


def _purpose(fields: dict[str, str]) -> str:
    for name in fields.keys() - _FIELDS:
        raise OpenAIError(HTTPStatus.BAD_REQUEST, f"unknown field: {name}", param=name)
    purpose = fields.get("purpose", "")
    if purpose not in get_args(Purpose):
        raise OpenAIError(
            HTTPStatus.BAD_REQUEST,
            f"purpose must be one of {', '.join(get_args(Purpose))}",
            param="purpose",
        )
    return purpose
