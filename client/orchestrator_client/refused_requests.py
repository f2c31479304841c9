"""Names the requests that the API refused by their lines in an upload."""

import json
import re
from collections.abc import Iterable
from itertools import islice

from orchestrator_client.errors import RequestRejected
from orchestrator_client.request_lines import ReplayableLines, Request, to_line

NAMED = 3  # maximum number of refused requests that are named

_LINE = re.compile(r"^line (\d+)\b", re.MULTILINE)


def name_requests(error: RequestRejected, requests: Iterable[Request]) -> RequestRejected:
    """Returns the error with the index and the id of each request whose line it names.

    A program has a list of requests, not lines. Returns the error unchanged if `requests` are lines
    of a file.
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
