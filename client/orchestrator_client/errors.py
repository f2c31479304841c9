"""Defines the errors of the client.

OrchestratorError           Catch this one for all of them.
├── InvalidConfiguration    The URL or the API key cannot be used.
├── ConnectionFailed        The API could not be reached, or the connection broke.
├── ServiceUnavailable      The API has no room (429), or cannot reach Redis (503).
├── RequestRejected         The API refused the request; the text is its reason.
└── InvalidResponse         The server at this URL is not an orchestrator.
"""


class OrchestratorError(Exception):
    """Every error of the client is one of these.

    url: the API's, or that of the request.
    status_code: of the HTTP response; None if there was none.
    retry_after_s: seconds after which a repetition may succeed; None if none will.
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
    """The API could not be reached, or the connection broke."""


class ServiceUnavailable(OrchestratorError):
    """The API has no room (429), or cannot reach Redis (503)."""


class RequestRejected(OrchestratorError):
    """The API refused the request; the text is its reason."""


class InvalidResponse(OrchestratorError):
    """The server at this URL is not an orchestrator."""

    def __init__(self, url: str, status_code: int) -> None:
        super().__init__(
            f"{url} did not return a valid orchestrator response. Check ORCHESTRATOR_URL.",
            url=url,
            status_code=status_code,
        )
