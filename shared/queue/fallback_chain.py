"""Writes the routes to which an item may move, as lua/lib/fallbacks.lua reads them."""

from collections.abc import Sequence

MAX_FALLBACKS = 10  # limit of the routes that an item may move to
_STEP, _MODEL = "\x1f", "\x1e"


def fallback_chain(
    targets: Sequence[tuple[str, str]], *, after_s: float, content_filtered: bool
) -> str:
    """Returns the text that follows the model in the name of a route; "" without targets.

    targets: lanes and models, in the order in which they are tried. after_s: the time that an item
    waits for a provider that does not work, before it moves on.
    """
    if not targets:
        return ""
    flag = "c" if content_filtered else ""
    steps = (f"{lane}{_MODEL}{model}" for lane, model in targets[:MAX_FALLBACKS])
    return f"{_STEP}{round(after_s * 1000)}{flag}{_STEP}{_STEP.join(steps)}"
