"""Says which requests the API refused, because its errors name only the lines of an upload."""

import json
import re
from collections.abc import Iterable
from itertools import islice

from orchestrator_client.errors import RequestRejected
from orchestrator_client.request_lines import ReplayableLines, Request, to_line

NAMED = 3  # maximum number of refused requests that are named

_LINE = re.compile(r"^line (\d+)\b", re.MULTILINE)


def name_requests(error: RequestRejected, requests: Iterable[Request]) -> RequestRejected:
    """Returns the error with the indexes and the ids of the first NAMED requests that it refuses.

    The error names only lines, but a program has a list of requests. Returns the error unchanged if
    it names no line, or if `requests` yields bytes and is not a ReplayableLines: then the program
    itself has lines, such as the lines of a file.
    """
    names = [
        f"Line {number} is the request with the index {number - 1}{_request_id(request)}."
        for number in dict.fromkeys(map(int, _LINE.findall(str(error))))
        for request in islice(requests, number - 1, number)
        if not isinstance(request, bytes) or isinstance(requests, ReplayableLines)
    ]
    if not names:
        return error
    return RequestRejected(
        "\n".join([str(error), *names[:NAMED]]), url=error.url, status_code=error.status_code
    )


def _request_id(request: Request) -> str:
    try:
        value = json.loads(to_line(request))
    except ValueError:
        return ""
    found = value.get("request_id") if isinstance(value, dict) else None
    return "" if found is None else f" and the request_id {found!r}"
