"""Lists error responses of Gemini."""

from support.error_responses.bodies import google, quota_failure, retry_info
from support.error_responses.judgements import (
    REFUSED_KEY,
    REJECTED,
    TIMEOUT,
    TOO_LONG_REQUEST,
    Responses,
    limited,
    overloaded,
    spent,
)

PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
GEMINI_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more"
    " information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)

RESPONSES: Responses = {
    "gemini": [
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure(PER_MINUTE),
                {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
                retry_info("14s"),
            ),
            limited(14),
        ),
        (
            429,
            {},
            [google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA + "\nPlease retry in 14.405s.")],
            limited(14.405),
        ),
        (429, {}, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA), limited()),
        (429, {}, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted"), limited()),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure("RequestsPerMinutePerProject"),
            ),
            limited(account=True),
        ),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure(PER_MINUTE, PER_DAY),
                retry_info("57600s"),
            ),
            spent(57_600, account=False),
        ),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA + " * Quota exceeded for metric: x, limit: 0",
                quota_failure(PER_MINUTE),
                retry_info("30s"),
            ),
            spent(30, account=False),
        ),
        (
            429,
            {},
            google(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spending cap."),
            spent(),
        ),
        (503, {}, google(503, "UNAVAILABLE", "The model is overloaded."), overloaded()),
        (503, {}, google(503, "UNAVAILABLE", "The service is unavailable"), overloaded()),
        (504, {}, google(504, "DEADLINE_EXCEEDED", "Deadline expired"), TIMEOUT),
        (
            400,
            {},
            google(400, "INVALID_ARGUMENT", "x", {"reason": "API_KEY_INVALID", "domain": "d"}),
            REFUSED_KEY,
        ),
        (
            400,
            {},
            google(
                400,
                "INVALID_ARGUMENT",
                "The input token count (2000000) exceeds the maximum number of tokens allowed"
                " (1048576).",
            ),
            TOO_LONG_REQUEST,
        ),
        (400, {}, google(400, "INVALID_ARGUMENT", "Invalid value at 'safety_settings'"), REJECTED),
    ],
}
