"""Serves the endpoints of OpenAI's API that answer with a model's answer."""

from fastapi import APIRouter, Response

from api.openai.live_call import LiveCallDep
from api.openapi import (
    AUTHENTICATED,
    CALL_REFUSED,
    OPENAI,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_STREAM,
    request_body,
)
from shared.dialects.dialect import Operation

router = APIRouter(prefix="/v1", tags=[OPENAI], dependencies=[AUTHENTICATED])


@router.post(
    "/chat/completions",
    summary="Create a chat completion",
    responses={**OPENAI_STREAM, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_chat_completions(call: LiveCallDep) -> Response:
    """Send one chat request to the provider of the model, and return the provider's answer.

    `model` is `provider/model` or an alias. With `stream`, the answer arrives as the provider sends
    it, and an error in the middle is the last event. The request waits in the same queue as jobs,
    but usually runs before their requests."""
    return await call.answer(Operation.CHAT)


@router.post(
    "/embeddings",
    summary="Create embeddings",
    responses={**OPENAI_ANSWER, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_embeddings(call: LiveCallDep) -> Response:
    """Send one request for embeddings to the provider of the model, and return the answer."""
    return await call.answer(Operation.EMBEDDINGS)


@router.post(
    "/responses",
    summary="Create a response",
    responses={**OPENAI_STREAM, **CALL_REFUSED},
    openapi_extra=request_body(OPENAI_BODY),
)
async def post_responses(call: LiveCallDep) -> Response:
    """Send one request of the Responses API to the provider of the model, and return the answer.

    The provider must have this API. Responses are not stored here."""
    return await call.answer(Operation.RESPONSES)
