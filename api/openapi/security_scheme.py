"""Describes how a client authenticates."""

from fastapi import Depends
from fastapi.security import HTTPBearer

# The middleware checks the key; this dependency only documents it.
AUTHENTICATED = Depends(
    HTTPBearer(
        auto_error=False,
        description="Your API key. It is required if `API_KEYS` is set on the server.",
    )
)
