"""Returns texts that say why a request was refused, and what to do."""

import httpx

# An orchestrator gives its own reason for each refusal. Another server, which does not know the
# path, gives only the name of the status. A file server answers a POST with 501.
_STANDARD_REASONS = {"Not Found", "Method Not Allowed"}
_UNKNOWN_PATH = {404, 405, 501}


def refusal_text(response: httpx.Response, *, has_key: bool) -> str:
    """Returns the reason for a response whose status is not 2xx, and what to do.

    Each error of a 422 becomes a line, such as `line 2 provider: Field required`.
    """
    detail = _detail(response)
    status = response.status_code
    asked = asked_for(response)
    answered = f"{asked} answered {status} {response.reason_phrase}".rstrip()
    if status == httpx.codes.UNAUTHORIZED:
        key = "refused the API key" if has_key else "needs an API key"
        advice = "the key of this API" if has_key else "your API key"
        return f"{answered}. The server {key}: set ORCHESTRATOR_API_KEY to {advice}."
    if response.is_redirect:
        target = response.headers.get("location", "another address")
        return f"{answered} to {target}. Set ORCHESTRATOR_URL to the address of the API itself."
    if detail in _STANDARD_REASONS or (detail is None and status in _UNKNOWN_PATH):
        return f"{answered}. The server is not an orchestrator: check ORCHESTRATOR_URL."
    return f"{answered}." if detail is None else detail


def asked_for(response: httpx.Response) -> str:
    """Returns the method and the URL of a request, such as `GET http://localhost:8000/jobs`.

    Leaves out the query, because the URL of a webhook in the query may contain a secret.
    """
    return f"{response.request.method} {response.url.copy_with(query=None)}"


def _detail(response: httpx.Response) -> str | None:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(detail, list):
        return str(detail)
    try:
        return "\n".join(
            f"{' '.join(str(part) for part in error['loc'][1:])}: {error['msg']}"
            for error in detail
        )
    except (KeyError, TypeError):
        return None
