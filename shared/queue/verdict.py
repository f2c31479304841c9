"""Defines the verdicts on failed calls. Files in `lua/lib/` decide what a verdict changes.

Each fault has a verdict: see leases.py. `pauses.lua` decides on pauses and probes, `waiting.lua` on
waits, `fallbacks.lua` on moves to another model, `adaptive_limit.lua` on limits.
"""

from enum import StrEnum


class Verdict(StrEnum):
    """Says what a failed call means for its item, and for the deployment that was called."""

    RATE_LIMITED = "rate_limited"  # the provider refuses further calls for now
    OVERLOADED = "overloaded"  # the provider says that it has no capacity for now
    QUOTA_EXHAUSTED = "quota_exhausted"  # credit or a day's quota is used up: minutes do not help
    UNAUTHORIZED = "unauthorized"  # the key is wrong, or may not do this
    UNREACHABLE = "unreachable"  # no connection could be established
    CONTEXT_TOO_LONG = "context_too_long"  # the request has more tokens than the model can take
    CONTENT_FILTERED = "content_filtered"  # the provider's moderation refused the request
    TRANSIENT = "transient"  # the next attempt may succeed
    UNFINISHED = "unfinished"  # a response with status 200 did not contain a whole answer
    REJECTED = "rejected"  # the same call would fail again
    MODEL_NOT_FOUND = "model_not_found"  # the provider does not have the model
    NOT_CONFIGURED = "not_configured"  # the worker cannot call the provider, and made no call
