"""The base of all models that a client gets."""

from pydantic import BaseModel, ConfigDict


class Outbound(BaseModel):
    # An error in a model must not show its input, which may be an answer.
    model_config = ConfigDict(hide_input_in_errors=True)
