"""Explains in sentences which deployments of a lane do not work or are paused."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from shared.monitoring.account_state import not_covered
from shared.monitoring.models import (
    MAX_DEPLOYMENTS,
    DeploymentState,
    Lane,
    Notice,
    Severity,
    UnhealthyDeployment,
)
from shared.monitoring.notice_texts import are, clock, duration
from shared.providers import variable

MAX_NOTICES = 3  # if more deployments of a lane are in one state, one notice is about all of them
NAMED = 3  # number of deployments that a notice about more than MAX_NOTICES deployments names


def deployment_notices(at: datetime, lane: Lane) -> Iterator[Notice]:
    if lane.paused_until and not lane.deployments:  # an alias
        text = (
            f"{lane.name} is paused until {clock(lane.paused_until, at)}, because all of its"
            f" deployments are paused or do not work: {lane.paused_because}."
        )
        yield _notice(Severity.WARNING, lane, _joined(text, _all_waiting(lane)))
    found = not_covered(lane)
    probing = [one for one in found if one.state is DeploymentState.PROBING]
    paused = [one for one in found if one.state is DeploymentState.PAUSED]
    if len(probing) > MAX_NOTICES:
        yield _notice(Severity.ERROR, lane, _many_not_working(at, lane, probing))
    else:
        for one in probing:
            yield _notice(Severity.ERROR, lane, _not_working(at, lane, one), one)
    paused = [one for one in paused if one.next_call_at > at]
    if len(paused) > MAX_NOTICES:
        yield _notice(Severity.WARNING, lane, _many_paused(at, lane, paused))
    else:
        for one in paused:
            yield _notice(Severity.WARNING, lane, _paused(at, lane, one), one)


def _not_working(at: datetime, lane: Lane, one: UnhealthyDeployment) -> str:
    lasted = duration((at - one.since).total_seconds())
    return _joined(
        f"{one.name} has not worked for {lasted}, since {clock(one.since, at)},"
        f" because the provider {one.because}.",
        _next_call(at, lane, one),
        _waiting(lane, one),
        _advice(lane, one),
        f"To try now: orchestrator lanes resume {one.name}",
    )


def _many_not_working(at: datetime, lane: Lane, probing: Sequence[UnhealthyDeployment]) -> str:
    first = min(probing, key=lambda one: one.since)
    lasted = duration((at - first.since).total_seconds())
    return _joined(
        f"{lane.name}: {_models(lane, probing)} do not work.",
        f"The first has not worked for {lasted}, since {clock(first.since, at)},"
        f" because the provider {first.because}.",
        _waiting(lane, first),
        _advice(lane, first),
        f"To try now: orchestrator lanes resume {lane.name}",
    )


def _paused(at: datetime, lane: Lane, one: UnhealthyDeployment) -> str:
    left_s = (one.next_call_at - at).total_seconds()
    state = (
        f"is paused for another {duration(left_s)}, until {clock(one.next_call_at, at)},"
        if round(left_s)
        else "is resuming now. It was paused"
    )
    return _joined(f"{one.name} {state} because the provider {one.because}.", _waiting(lane, one))


def _many_paused(at: datetime, lane: Lane, paused: Sequence[UnhealthyDeployment]) -> str:
    last = max(paused, key=lambda one: one.next_call_at)
    left = duration((last.next_call_at - at).total_seconds())
    return _joined(
        f"{lane.name}: {_models(lane, paused)} are paused. The last pause ends in {left}, at"
        f" {clock(last.next_call_at, at)}. The provider {last.because}.",
        _waiting(lane, last),
    )


def _models(lane: Lane, some: Sequence[UnhealthyDeployment]) -> str:
    """Returns, for example, "4 models (a, b, c and 1 more)"."""
    least = "at least " if len(lane.deployments) >= MAX_DEPLOYMENTS else ""
    named = ", ".join(_model(one) or one.name for one in some[:NAMED])
    return f"{least}{len(some)} models ({named} and {len(some) - NAMED} more)"


def _next_call(at: datetime, lane: Lane, one: UnhealthyDeployment) -> str:
    left_s = (one.next_call_at - at).total_seconds()
    if one.is_probing:
        return "A call that finds out whether the provider works again is running."
    if not lane.queued + lane.deferred:
        return "The next request finds out whether the provider works again."
    if not round(max(0, left_s)):
        return "The next call is made now."
    return f"The next call is made in {duration(left_s)}, at {clock(one.next_call_at, at)}."


def _waiting(lane: Lane, one: UnhealthyDeployment) -> str:
    return _all_waiting(lane, lane.name if one.name != lane.name else "")


def _all_waiting(lane: Lane, provider: str = "") -> str:
    """Returns a sentence with the number of the lane's waiting requests; "" if none waits.

    provider: is named in the sentence, because some of the requests may be for other models than
        the notice; "" for no name.
    """
    waiting = lane.queued + lane.deferred
    if not waiting:
        return ""
    return f"{are(waiting, 'waiting', provider=provider)}, counted over all jobs."


def _advice(lane: Lane, one: UnhealthyDeployment) -> str:
    match one.verdict:
        case "unauthorized":
            return f"Check {_key_variable(lane, one)}, and restart the workers."
        case "quota_exhausted" | "rate_limited":
            return f"Check the credit and the limits of the account at {lane.name}."
        case "unreachable":
            url = variable(lane.name, "base_url")
            return f"Check {url}, and whether the workers can reach the provider."
        case _:
            return "Check the provider's status page, or the log of your own server."


def _key_variable(lane: Lane, one: UnhealthyDeployment) -> str:
    number = one.name.partition("/")[0].removeprefix(lane.name).removeprefix("#")
    name = variable(lane.name, "api_key")
    return name if number in {"", "1"} else f"{name}_{number}"


def _model(one: UnhealthyDeployment) -> str:
    """Returns the deployment's model; "" for all models of an account."""
    return one.name.partition("/")[2]


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _notice(
    severity: Severity, lane: Lane, text: str, one: UnhealthyDeployment | None = None
) -> Notice:
    model = _model(one) if one else ""
    return Notice(severity=severity, lane=lane.name, model=model or None, text=text)
