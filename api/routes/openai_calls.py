"""Serves the endpoints of OpenAI's API that call a model and return its answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api.dependencies.request_headers import IdempotencyKey, RepetitionDep
from api.dependencies.services import DisconnectDep, OwnerDep, ServicesDep
from api.openai.live_call import LiveCall
from api.openapi.openai_responses import CALL_REFUSED, OPENAI_ANSWER, OPENAI_STREAM
from api.openapi.request_bodies import OPENAI_BODY, request_body
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import OPENAI
from api.requests.vendor_requests import VendorOptions
from shared.dialects.dialect import Operation

router = APIRouter(prefix="/v1", tags=[OPENAI], dependencies=[AUTHENTICATED])


async def _live_call(
    request: Request,
    owner: OwnerDep,
    key: IdempotencyKey,
    is_repetition: RepetitionDep,
    wait_for_disconnect: DisconnectDep,
    provider: Annotated[
        str | None,
        Query(description="The provider that gets the call. No prefix is removed from `model`."),
    ] = None,
    model: Annotated[
        str | None, Query(description="The model that replaces the model in the body.")
    ] = None,
) -> LiveCall:
    return LiveCall(
        request,
        owner,
        key,
        VendorOptions(provider, model),
        is_repetition=is_repetition,
        wait_for_disconnect=wait_for_disconnect,
    )


LiveCallDep = Annotated[LiveCall, Depends(_live_call)]


@router.post(
    "/chat/completions",
    summary="Create a chat completion",
    responses={**OPENAI_STREAM, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_chat_completions(services: ServicesDep, call: LiveCallDep) -> Response:
    """Send one chat request to the provider of the model, and return the provider's answer.

    `model` is `provider/model`, an alias, or a model of `DEFAULT_PROVIDER`. With `stream`, the
    answer arrives as the provider sends it, and an error in the middle is the last event. The
    request waits in the same queue as the requests of jobs, but usually runs before them."""
    return await services.openai.live_calls.answer(Operation.CHAT, call)


@router.post(
    "/embeddings",
    summary="Create embeddings",
    responses={**OPENAI_ANSWER, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_embeddings(services: ServicesDep, call: LiveCallDep) -> Response:
    """Send one request for embeddings to the provider of the model, and return the answer."""
    return await services.openai.live_calls.answer(Operation.EMBEDDINGS, call)


@router.post(
    "/responses",
    summary="Create a response",
    responses={**OPENAI_STREAM, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_responses(services: ServicesDep, call: LiveCallDep) -> Response:
    """Send one request of the Responses API to the provider of the model, and return the answer.

    The provider must have this API. Responses are not stored here."""
    return await services.openai.live_calls.answer(Operation.RESPONSES, call)
