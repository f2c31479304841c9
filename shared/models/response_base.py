"""Defines the base class of the models of jobs and results, which a client gets."""

from pydantic import BaseModel, ConfigDict


class Outbound(BaseModel):
    # A validation error must not show the input, which may contain an answer.
    model_config = ConfigDict(hide_input_in_errors=True)
