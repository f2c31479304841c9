"""Defines the errors of the client.

OrchestratorError           This is the base class: catch it to catch every error.
├── InvalidConfiguration    The URL or the API key cannot be used.
├── ConnectionFailed        The API could not be reached, or the connection broke.
├── ServiceUnavailable      The API is full (429 or 503), Redis is unavailable (503), or a proxy
│                           cannot reach the API (502) or waited too long for it (504).
├── RequestRejected         The API returned another status than 2xx; `str(error)` is the reason.
└── InvalidResponse         The response is not from an orchestrator, or is not valid.
"""


class OrchestratorError(Exception):
    """Is the base class of all errors of the client.

    url: the API's URL, or the request's URL if there was a response.
    status_code: status of the HTTP response; None if there was no response.
    retry_after_s: seconds after which the request may succeed; None if repeating it is useless.
    """

    def __init__(
        self,
        message: str,
        *,
        url: str,
        status_code: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.url = url
        self.status_code = status_code
        self.retry_after_s = retry_after_s


class InvalidConfiguration(OrchestratorError):
    """The URL or the API key cannot be used."""


class ConnectionFailed(OrchestratorError):
    """The API could not be reached, or the connection broke before the response was complete."""


class ServiceUnavailable(OrchestratorError):
    """The API is full, Redis is unavailable, or a proxy gets no answer from the API.

    The status is 429, 502, 503, 504, 520 to 524 or 530.
    """


class RequestRejected(OrchestratorError):
    """The API returned another status than 2xx, such as 404. `str(error)` is the reason."""


class InvalidResponse(OrchestratorError):
    """The response is not from an orchestrator, or is not valid."""

    def __init__(self, url: str, status_code: int) -> None:
        super().__init__(
            f"{url} did not return a valid orchestrator response. Check ORCHESTRATOR_URL.",
            url=url,
            status_code=status_code,
        )
