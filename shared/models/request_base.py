"""Defines the base class and the text types of the pydantic models that validate requests."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

MAX_TEXT = 50_000  # limit of a text in a native request, in characters


class Inbound(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "String must not be empty or whitespace only")
    return text


NotBlank = AfterValidator(_not_blank)
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), NotBlank]
JsonObject = dict[str, JsonValue]
