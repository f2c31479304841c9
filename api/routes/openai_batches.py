"""Serves `/v1/batches`: the Batches API of OpenAI."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from api.dependencies.provider_query import ProviderQuery
from api.dependencies.request_headers import IdempotencyKey, RepetitionDep
from api.dependencies.services import DisconnectDep, OwnerDep, ServicesDep
from api.openai.batch_schemas import Batch, BatchList, NewBatch
from api.openai.body import read_model
from api.openai.request_check import hold
from api.openapi.openai_responses import OPENAI_CREATED, OPENAI_LISTED, OPENAI_READ
from api.openapi.request_bodies import json_body
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import OPENAI

MAX_PAGE = 100

BatchId = Annotated[str, Path(description="The `id` of one of your batches.")]

router = APIRouter(prefix="/v1/batches", tags=[OPENAI], dependencies=[AUTHENTICATED])


@router.post(
    "", summary="Create a batch", responses=OPENAI_CREATED, openapi_extra=json_body(NewBatch)
)
async def create_batch(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    is_repetition: RepetitionDep,
    wait_for_disconnect: DisconnectDep,
    provider: ProviderQuery = None,
) -> Batch:
    """Create a batch from an uploaded file. Its requests may start immediately.

    If a line of the file is invalid, no request runs, and the batch has the status `failed`.
    OpenAI's clients repeat a request that got no response. The repetition returns the batch that
    the first request has created."""
    new = await read_model(request, services.settings, NewBatch)
    return await services.openai.batches.create(
        new,
        owner,
        provider=provider,
        key=key,
        is_repetition=is_repetition,
        held=partial(hold, request, services.settings),
        wait_for_disconnect=wait_for_disconnect,
    )


@router.get("", summary="List your batches", responses=OPENAI_LISTED)
async def list_batches(
    services: ServicesDep,
    owner: OwnerDep,
    after: Annotated[
        str | None, Query(description="The `last_id` of the previous page. Default: the first page")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE, description="The maximum number of batches on a page.")
    ] = 20,
) -> BatchList:
    """Return your batches, newest first. Jobs for which a client waits are left out."""
    return await services.openai.batches.list_batches(owner, after=after, limit=limit)


@router.get("/{batch_id}", summary="Get a batch", responses=OPENAI_READ)
async def get_batch(batch_id: BatchId, services: ServicesDep, owner: OwnerDep) -> Batch:
    """Return the status of a batch, or of any other job."""
    return await services.openai.batches.get(batch_id, owner)


@router.post("/{batch_id}/cancel", summary="Cancel a batch", responses=OPENAI_LISTED)
async def cancel_batch(batch_id: BatchId, services: ServicesDep, owner: OwnerDep) -> Batch:
    """Cancel a batch. Finished requests keep their results, and running calls are stopped."""
    return await services.openai.batches.cancel(batch_id, owner)
