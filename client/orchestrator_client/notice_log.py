"""Logs why the results of a job do not arrive."""

from pydantic import ValidationError

from orchestrator_client.connection import Connection, log
from orchestrator_client.errors import OrchestratorError
from orchestrator_client.models import Job, Overview, parse


class NoticeLog:
    """Logs the API's notices about the lanes of a job, each cause once.

    path: path of the job in the API.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._logged: set[tuple[str | None, str | None]] = set()

    async def log_new(self) -> None:
        """Reads the notices, and logs the warnings and errors that were not logged before.

        Logs nothing if the API cannot be read.
        """
        try:
            job = parse(Job, (await self._connection.attempt("GET", self._path)).content)
            response = await self._connection.attempt("GET", "/overview")
            overview = parse(Overview, response.content)
        except (OrchestratorError, ValidationError):
            return  # the stream of results reports a problem of the API
        for notice in overview.notices:
            about = notice.lane, notice.model
            is_cause = notice.severity != "info" and notice.lane in {None, *job.providers}
            # The text cannot identify the cause, because the figures in the text change.
            if is_cause and about not in self._logged:
                self._logged.add(about)
                log.warning("%s", notice.text)
