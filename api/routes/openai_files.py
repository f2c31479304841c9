"""Serves `/v1/files`: the Files API of OpenAI."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from api.dependencies.provider_query import ProviderQuery
from api.dependencies.request_headers import IdempotencyKey, RepetitionDep
from api.dependencies.services import DisconnectDep, OwnerDep, ServicesDep
from api.disconnect import require_client
from api.openai.batch_schemas import FileDeleted, FileList, FileObject
from api.openai.files import OCTETS
from api.openai.multipart import UploadForm
from api.openai.request_check import hold
from api.openapi.openai_responses import OPENAI_LISTED, OPENAI_READ, OPENAI_STORED
from api.openapi.request_bodies import UPLOAD_BODY
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import OPENAI
from api.requests.body import body_chunks
from api.streams.stream_response import StreamResponse
from shared.files.upload import Repetition

MAX_PAGE = 10_000
FORM_BYTES = 1024 * 1024  # limit of the parts of a form besides the file, together

FileId = Annotated[str, Path(description="The `id` of one of your files.")]

router = APIRouter(prefix="/v1/files", tags=[OPENAI], dependencies=[AUTHENTICATED])


@router.post("", summary="Upload a file", responses=OPENAI_STORED, openapi_extra=UPLOAD_BODY)
async def upload_file(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    is_repetition: RepetitionDep,
    wait_for_disconnect: DisconnectDep,
    provider: ProviderQuery = None,
) -> FileObject:
    """Upload a file of up to `MAX_FILE_BYTES`, for a batch.

    The parts of the form may have any order. The lines of a file for a batch are checked while they
    arrive. A file with mistakes is stored, too; a batch of it fails and lists the mistakes.

    OpenAI's clients repeat an upload that got no response. The repetition returns the file that the
    first upload has created."""
    max_bytes = services.settings.max_file_bytes + FORM_BYTES
    chunks = hold(request, services.settings, body_chunks(request, max_bytes, "MAX_FILE_BYTES"))
    form = UploadForm(request.headers.get("content-type", ""), chunks)
    repetition = Repetition(
        is_repeated=is_repetition,
        key=key,
        key_ttl_s=services.settings.idempotency_ttl_seconds,
    )
    return await services.openai.files.upload(
        form, owner, provider, repetition, partial(require_client, wait_for_disconnect)
    )


@router.get("", summary="List your files", responses=OPENAI_LISTED)
async def list_files(
    services: ServicesDep,
    owner: OwnerDep,
    after: Annotated[
        str | None, Query(description="The `last_id` of the previous page. Default: the first page")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE, description="The maximum number of files on a page.")
    ] = MAX_PAGE,
    order: Annotated[
        Literal["asc", "desc"], Query(description="`desc` returns the newest files first.")
    ] = "desc",
    purpose: Annotated[
        str | None,
        Query(
            max_length=64,
            description="Returns only files with this purpose. Results have `batch_output`.",
        ),
    ] = None,
) -> FileList:
    """Return the files that you have uploaded, and the files of results of batches that have ended.

    The size of a file of results is 0 until the file was read once."""
    return await services.openai.file_lister.page(
        owner, after=after, limit=limit, newest_first=order == "desc", purpose=purpose
    )


@router.get("/{file_id}", summary="Get a file", responses=OPENAI_READ)
async def get_file(file_id: FileId, services: ServicesDep, owner: OwnerDep) -> FileObject:
    """Return the description of a file."""
    return await services.openai.files.get(file_id, owner)


@router.get(
    "/{file_id}/content",
    summary="Get the content of a file",
    response_class=Response,
    responses={200: {"content": {OCTETS: {}}}, **OPENAI_READ},
)
async def get_content(file_id: FileId, services: ServicesDep, owner: OwnerDep) -> StreamResponse:
    """Stream the content of a file.

    A file of results can be read while the batch runs. The response then has the header
    `X-Incomplete`."""
    return await services.openai.files.content(file_id, owner)


@router.delete("/{file_id}", summary="Delete a file", responses=OPENAI_READ)
async def delete_file(file_id: FileId, services: ServicesDep, owner: OwnerDep) -> FileDeleted:
    """Delete a file. The batches of the file continue, because they have a copy of its requests.

    If you delete a file of results, the results stay with the job until they expire."""
    return await services.openai.files.delete(file_id, owner)
