"""Defines exceptions of the API process. error_responses.py has the response to each exception.

Other exceptions with a response are defined in the modules that raise them.
"""


class ClientDisconnected(Exception):
    """The client closed the connection before it had received the whole response."""


class FormatMismatch(ValueError):
    """The job's results cannot have this format. `str(error)` names the possible formats."""


class IdempotencyResultExpired(Exception):
    """The results of the job with this idempotency key have expired."""


class InvalidCursor(Exception):
    """The value of the parameter `parameter` is not a cursor of this API."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


class ResultsUnavailable(Exception):
    """The job was accepted, but its status cannot be read, because Redis is unavailable."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id
