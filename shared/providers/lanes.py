"""Names the lanes: one for each provider, and one for each alias with several deployments."""

from urllib.parse import quote, unquote

_ALIAS = "@"  # begins the name of an alias's lane; no provider's name contains it


def alias_lane(alias: str) -> str:
    """Returns the name of the lane of an alias, without spaces and colons."""
    return _ALIAS + quote(alias, safe="")


def shown_lane(lane: str) -> str:
    """Returns the name of a lane for a reader: the provider's name or the alias."""
    return unquote(lane.removeprefix(_ALIAS)) if lane.startswith(_ALIAS) else lane
