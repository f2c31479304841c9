"""Defines the objects of OpenAI's API: https://platform.openai.com/docs/api-reference."""

from typing import Literal

from pydantic import BaseModel, Field


class OpenAIErrorDetail(BaseModel):
    message: str = Field(description="A description of the error for a human reader.")
    type: str
    param: str | None = Field(
        description="The field that must change; `null` if no field is the cause."
    )
    code: str | None = Field(description="The reason, for programs: for example `model_not_found`.")


class OpenAIRefusal(BaseModel):
    """Is the body of every error response under `/v1`."""

    error: OpenAIErrorDetail


class OpenAIModel(BaseModel):
    id: str = Field(
        description="The value of `model` in a request: `provider/model`, an alias, or a model of"
        " the default provider."
    )
    object: Literal["model"] = "model"
    created: int = Field(
        default=0, description="Always 0, because the time of the model's release is unknown."
    )
    owned_by: str = Field(description="The name of the provider.")


class OpenAIModels(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]
