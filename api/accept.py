"""The Accept header, RFC 9110, 12.5.1."""

from collections.abc import Collection


def preferred(accept: str, offered: Collection[str], otherwise: str) -> str:
    """Of the media types offered, the one that the header names with the most weight; of equals,
    the first. `otherwise`: it names none."""
    best, best_weight = otherwise, 0.0
    for media_range in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in media_range.split(";"))
        weight = next((_weight(part) for part in parameters if part.startswith("q=")), 1.0)
        if media_type in offered and weight > best_weight:
            best, best_weight = media_type, weight
    return best


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 1.0
