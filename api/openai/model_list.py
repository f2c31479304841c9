"""Lists the models of this server as OpenAI's API does."""

from http import HTTPStatus

from api.openai.errors import OpenAIError
from api.openai.schemas import OpenAIModel, OpenAIModels
from shared.providers import Catalogue
from shared.providers.routing import RoutingError, route


def list_models(catalogue: Catalogue) -> OpenAIModels:
    return OpenAIModels(
        data=[
            OpenAIModel(id=name, owned_by=alias.deployments[0].provider)
            for name, alias in sorted(catalogue.aliases.items())
        ]
    )


def find_model(model: str, catalogue: Catalogue, default_provider: str | None) -> OpenAIModel:
    """Returns the model that requests with this name get. Raises OpenAIError 404."""
    try:
        target = route(catalogue, model, provider=None, default_provider=default_provider)
    except RoutingError as error:
        raise OpenAIError(
            HTTPStatus.NOT_FOUND, str(error), code="model_not_found", param="model"
        ) from None
    return OpenAIModel(id=model, owned_by=target.provider.name)
