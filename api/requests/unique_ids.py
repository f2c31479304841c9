"""Finds repeated request ids."""

from dataclasses import dataclass, field
from hashlib import blake2b

from api.requests.formats import ID_MEMBER, RequestFormat
from api.requests.vendor_line import InvalidLine
from shared.jobs.new_item import NewItem


@dataclass(slots=True)
class UniqueIds:
    """Finds an id that two requests of a job have. Stores digests, because an id may be long."""

    lines: dict[bytes, int] = field(default_factory=dict)

    def check(self, number: int, item: NewItem) -> None:
        """Raises InvalidLine if an earlier line has the same id."""
        if item.request_id is None:
            return
        digest = blake2b(item.request_id.encode(), digest_size=16).digest()
        earlier = self.lines.setdefault(digest, number)
        if earlier != number:
            name = ID_MEMBER[RequestFormat(item.format)]
            raise InvalidLine(
                f"{name} must differ from the {name} in line {earlier}",
                name,
                code=f"duplicate_{name}",
            )
