"""Lists error responses that any vendor may send."""

from support.error_responses.bodies import openai
from support.error_responses.judgements import (
    TIMEOUT,
    TOO_LONG_REQUEST,
    TRANSIENT,
    Responses,
    limited,
    overloaded,
    spent,
)

RESPONSES: Responses = {
    "any": [
        (429, {}, None, limited()),
        (429, {}, "<html>", limited()),
        (429, {}, {"error": "API key rate limit exceeded"}, limited(account=True)),
        (
            429,
            {},
            openai("You exceeded your current quota, please check your plan"),
            spent(account=False),
        ),
        (429, {}, {"error": "Your daily limit is reached"}, spent(account=False)),
        (429, {}, {"error": "More than 10 calls per minute or 500 per day"}, limited()),
        (503, {}, {"error": "Service Unavailable"}, TRANSIENT),
        (503, {"retry-after": "7"}, None, overloaded(7)),
        (500, {"retry-after": "7"}, None, TRANSIENT),
        (500, {}, {"error": "model 'x' not found"}, TRANSIENT),
        (413, {}, "<html>", TOO_LONG_REQUEST),
        *[(status, {}, None, TIMEOUT) for status in (408, 504, 522, 524)],
    ],
}
