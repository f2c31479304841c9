"""Lists the codes and words that tell the kinds of vendors' errors apart.

Codes are compared in the form of `shared.dialects.refusal_reason.codes`: lower-case letters and
digits.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

from shared.models import ErrorCode
from shared.queue.verdict import Verdict

CLIENT_ERRORS, SERVER_ERRORS = range(400, 500), range(500, 600)


def words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """Applies to responses with one of `statuses`, and one of `codes` or a match of `text`."""

    verdict: Verdict
    code: ErrorCode
    statuses: Container[int]
    codes: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None

    def applies(self, status: int, names: frozenset[str], text: str) -> bool:
        if status not in self.statuses:
            return False
        return bool(names & self.codes or (self.text and self.text.search(text)))


QUOTA = Rule(
    Verdict.QUOTA_EXHAUSTED,
    ErrorCode.QUOTA_EXHAUSTED,
    range(200, 1000),
    codes=frozenset(
        {
            # https://developers.openai.com/api/docs/guides/error-codes
            "insufficientquota",
            "creditbalanceexhausted",
            "organizationspendlimitexceeded",
            "projectspendlimitexceeded",
            "organizationusagelimitexceeded",
            "billinghardlimitreached",
            "billingnotactive",
            "enforcedspendlimitreached",  # Anthropic
            "billingerror",  # Anthropic
            "servicequotaexceededexception",  # Bedrock
            "exceededcurrentquotaerror",  # Moonshot
            "arrearage",  # Alibaba
        }
    ),
)
SPENT = Rule(
    Verdict.QUOTA_EXHAUSTED,
    ErrorCode.QUOTA_EXHAUSTED,
    CLIENT_ERRORS,
    text=words(
        r"credit balance|insufficient (credit|balance|fund|quota)"
        r"|(no|all available|enough|out of|included) credits|doesn't have any credits"
        r"|spend(ing)?[ -]?(cap|limit)|billing (hard )?limit|key limit exceeded"
        r"|reached your .{0,20}usage limit|account (\S+ )?is (suspended|not active)"
    ),
)
CONTEXT_TOO_LONG = Rule(
    Verdict.CONTEXT_TOO_LONG,
    ErrorCode.CONTEXT_TOO_LONG,
    {400, 403, 413, 422, 500},
    codes=frozenset(
        {
            "contextlengthexceeded",
            "exceedcontextsizeerror",  # llama.cpp
            "stringabovemaxlength",
            "requesttoolarge",  # Anthropic
        }
    ),
    text=words(
        r"context (length|window|size|limit)|(prompt|input) is too long|maximum prompt length"
        r"|input token count|number of tokens allowed|too many (input )?tokens"
        r"|reduce the length of|reduce your (message|prompt)|longer than the model"
        r"|tokens to keep from the initial prompt|`?inputs`? tokens \+|maximum input length"
    ),
)
# A request with more tokens than the limit of a minute gets a 429. A wait does not help.
TOO_LARGE_FOR_THE_LIMIT = Rule(
    Verdict.CONTEXT_TOO_LONG,
    ErrorCode.CONTEXT_TOO_LONG,
    {429},
    text=words(r"request too large|must be reduced|long context requests"),
)
FILTERED = Rule(
    Verdict.CONTENT_FILTERED,
    ErrorCode.CONTENT_FILTERED,
    {400, 403, 422},
    codes=frozenset(
        {
            "contentfilter",
            "contentfiltered",
            "contentpolicyviolation",
            "responsibleaipolicyviolation",  # Azure
            "moderation",
            "moderationblocked",
            "flaggedinput",
            "prohibitedcontent",
            "datainspectionfailed",  # Alibaba
        }
    ),
    text=words(
        r"content (management |filtering )policy|content policy violation|content.?filter"
        r"|(was|were|been) flagged|violat\w* .{0,40}(policy|policies|guidelines)|safety system"
        r"|blocked by .{0,40}(policy|safety|moderation)"
    ),
)
MODERATED = Rule(
    Verdict.CONTENT_FILTERED,
    ErrorCode.CONTENT_FILTERED,
    {403},
    text=words(r"flagged|moderat|safety"),
)
OVERLOADED = Rule(
    Verdict.OVERLOADED,
    ErrorCode.OVERLOADED,
    {429, 498, *SERVER_ERRORS},
    codes=frozenset(
        {
            "overloaded",
            "overloadederror",
            "serverisoverloaded",
            "engineoverloaded",
            "modeloverloaded",
            "capacityexceeded",
            "resourceunavailable",  # OpenAI's flex processing
            "modelnotreadyexception",  # Bedrock
        }
    ),
    text=words(r"overload|(over|at|no|insufficient) capacity|high demand|(server|model) busy"),
)
UNAVAILABLE = Rule(
    Verdict.OVERLOADED,
    ErrorCode.OVERLOADED,
    {503},
    codes=frozenset({"unavailable", "unavailableerror", "slowdown"}),  # Gemini, llama.cpp, OpenAI
    text=words(
        r"loading|\bbusy\b|queue is full|pending requests|not ready|warming up|high (load|traffic)"
    ),
)
