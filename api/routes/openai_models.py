"""Serves the models of OpenAI's API."""

from fastapi import APIRouter

from api.dependencies.services import ServicesDep
from api.openai.model_list import find_model
from api.openai.schemas import OpenAIModel, OpenAIModels
from api.openapi.openai_responses import OPENAI_REFUSED, UNKNOWN_MODEL
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import OPENAI

router = APIRouter(prefix="/v1/models", tags=[OPENAI], dependencies=[AUTHENTICATED])


@router.get("", summary="List the models", responses=OPENAI_REFUSED)
async def get_models(services: ServicesDep) -> OpenAIModels:
    """Return the aliases of this server, and the models that the configured providers list.

    `provider/model` works for every model of a configured provider, even if the model is not
    listed."""
    return await services.openai.models.models()


@router.get("/{model:path}", summary="Get a model", responses=UNKNOWN_MODEL)
async def get_model(model: str, services: ServicesDep) -> OpenAIModel:
    """Return a model, if it is an alias or a configured provider serves it.

    Whether the provider has the model is not checked."""
    return find_model(model, services.catalogue, services.settings.default_provider)
