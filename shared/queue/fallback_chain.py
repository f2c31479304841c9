"""Writes the names of routes. A name says to which models items may move.

lua/lib/fallbacks.lua reads the names.
"""

from collections.abc import Sequence

_STEP, _MODEL = "\x1f", "\x1e"
# Clients choose the names of models, which must not look like a chain.
_SEPARATORS = dict.fromkeys(range(0x1C, 0x20), "\N{REPLACEMENT CHARACTER}")


def route_name(model: str, chain: str) -> str:
    """Returns the name of a model's route.

    chain: the result of `fallback_chain`; "" if the model has no fallbacks.
    """
    return model.lower().translate(_SEPARATORS) + chain


def fallback_chain(
    targets: Sequence[tuple[str, str]], *, after_s: float, content_filtered: bool
) -> str:
    """Returns the text that follows the model in the name of a route; "" without targets.

    targets: pairs of lane and model, in the order in which they are tried.
    after_s: the time that an item waits for a provider that does not work, before it moves on.
    content_filtered: whether an item moves on, too, if a provider's moderation has refused it.
    """
    if not targets:
        return ""
    flag = "c" if content_filtered else ""
    steps = (f"{lane}{_MODEL}{model.translate(_SEPARATORS)}" for lane, model in targets)
    return f"{_STEP}{round(after_s * 1000)}{flag}{_STEP}{_STEP.join(steps)}"
