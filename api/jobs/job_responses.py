"""Builds the JSON responses that contain a job or the results of a batch."""

from fastapi import Response, status

from api.media_types import JSON
from api.streams.result_stream import ResultStream
from api.streams.stream_response import StreamResponse
from shared.jobs.views import StoredJob, batch_json, job_json, response_json


class JobResponses:
    """Responds with a job and its results.

    Large results are read and sent in parts, so that they are never in memory at the same time.
    """

    def __init__(self, results: ResultStream) -> None:
        self._results = results

    def accepted(self, job: StoredJob, headers: dict[str, str] | None = None) -> Response:
        """Returns a 202 with the job, and with the job's URL in the header Location."""
        location = {"Location": f"/jobs/{job.job_id}"}
        return self._response(
            job, job_json(job), status.HTTP_202_ACCEPTED, location | (headers or {})
        )

    def batch(self, job: StoredJob, headers: dict[str, str]) -> Response:
        """Returns a 200 with the results if the job has ended, otherwise the 202 of `accepted`."""
        if not job.has_ended:
            return self.accepted(job, headers)
        location = {"Location": f"/jobs/{job.job_id}"}
        return self._response(job, batch_json(job), status.HTTP_200_OK, location | headers)

    def job(self, job: StoredJob) -> Response:
        return self._response(job, job_json(job), status.HTTP_200_OK, {})

    def _response(
        self, job: StoredJob, ends: tuple[bytes, bytes], status_code: int, headers: dict[str, str]
    ) -> Response:
        """Returns the response. `ends` are the JSON before and after the value of `responses`.

        The value is null if the job has more items than one response may have.
        """
        before, after = ends
        metas, results = job.snapshot.metas, job.snapshot.results
        if metas is None:
            content = b"%bnull%b" % (before, after)
        elif results is not None:
            encoded = [
                response_json(meta, results.get(index), job.snapshot)
                for index, meta in enumerate(metas)
            ]
            content = b"%b[%b]%b" % (before, b",".join(encoded), after)
        else:
            chunks = self._results.encoded(job, before + b"[", b"]" + after)
            return StreamResponse(chunks, JSON, status_code=status_code, headers=headers)
        return Response(content, status_code, headers, media_type=JSON)
