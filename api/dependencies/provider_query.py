"""Defines the parameter that names the provider of all requests of a file or batch."""

from typing import Annotated

from fastapi import Query

ProviderQuery = Annotated[
    str | None,
    Query(
        alias="provider",
        description="The provider of all requests. Default: the model of each request names it.",
    ),
]
