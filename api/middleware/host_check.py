"""Refuses requests from other machines and from web pages of other sites.

Everyone who reaches an API without API keys may use it. Therefore three kinds of requests are
refused:
- A request from another machine arrives at an address that is not a loopback address. It is served
  if ALLOW_KEYLESS=true.
- DNS rebinding: the host name of a web page leads to this machine, so that the browser lets the
  page read the answers. The header Host then has this name. It never has an address instead,
  because a browser looks up only names.
- A web page of another site can send a request, although it cannot read the answer. The browser
  names the site in the header Origin (https://fetch.spec.whatwg.org/#origin-header). Only
  requests with a method that may change something are refused.
With keys, a web page can do nothing, because a browser adds no API key by itself. Host and Origin
are then checked only if ALLOWED_HOSTS is set.
"""

import re
from collections.abc import Mapping, Sequence

from starlette.types import Scope

from shared.loopback import is_loopback, parse_ip

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # RFC 9110, 9.2.1
MAX_CHECKED = 1000  # limit of the pairs of address and Host that are remembered
MAX_HOST = 261  # number of characters of the longest name with a port
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(?::([0-9]{0,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}

BEYOND_LOOPBACK = (
    "this API has no API keys, so it serves only its own machine, and this request arrived at"
    " {address}. Set API_KEYS (see `orchestrator keys create`), or set ALLOW_KEYLESS=true to serve"
    " everybody who reaches that address"
)
HOST = (
    "the host in the header Host ({host}) is not served. If it is a name of this API, add it to"
    " ALLOWED_HOSTS; localhost and loopback addresses are always served"
)
ORIGIN = (
    "a web page of another site ({origin}) may not change anything here. If the site is this API's"
    " own name, add the site's host to ALLOWED_HOSTS"
)


class HostCheck:
    """Refuses requests by the address at which they arrived, and by their Host and Origin.

    allowed: the names and addresses to serve; `*.name` means all names below `name`.
    without_keys: whether the installation has no API keys.
    allow_keyless: whether other machines may use an installation without API keys.
    """

    def __init__(self, allowed: Sequence[str], *, without_keys: bool, allow_keyless: bool) -> None:
        self._names = {name for name in allowed if not name.startswith("*")}
        self._endings = tuple(name[1:] for name in allowed if name.startswith("*"))
        self._only_loopback = without_keys and not allow_keyless
        self._served: set[tuple[str, bytes]] = set()  # arrival addresses and Host headers

    def refusal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
        """Returns why a request is refused, or None.

        Every browser sends Host. Without Host, only the address at which the request arrived and
        Origin are checked.
        """
        server = scope.get("server")
        # A unix socket has no port. Only this machine can reach it.
        address: str = server[0] if server and server[1] is not None else ""
        host = headers.get(b"host", b"")
        if (address, host) not in self._served:
            reason = self._first_refusal(address, host.decode("latin-1"))
            if reason is not None:
                return reason
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] not in SAFE_METHODS:
            return self._origin_refusal(host.decode("latin-1"), origin.decode("latin-1"))
        return None

    def _first_refusal(self, address: str, host: str) -> str | None:
        """Returns why a request with this arrival address and Host is refused, or None.

        Remembers a pair that is not refused, so that it is checked only once.
        """
        if self._only_loopback and address and not is_loopback(address):
            return BEYOND_LOOPBACK.format(address=address)
        if host and not self._serves(_split(host)[0], address):
            return HOST.format(host=_shown(host))
        if len(self._served) >= MAX_CHECKED:
            self._served.clear()
        self._served.add((address, host.encode("latin-1")))
        return None

    def _serves(self, name: str, address: str) -> bool:
        if self._is_allowed(name) or is_loopback(name):
            return True
        asked = parse_ip(name)
        return asked is not None and asked == parse_ip(address)

    def _is_allowed(self, name: str) -> bool:
        return name in self._names or name.endswith(self._endings)

    def _origin_refusal(self, host: str, origin: str) -> str | None:
        """Returns why a page with this origin is refused; None for this API and for allowed hosts.

        A page of this API has an Origin with the host and the port of the header Host.
        """
        found = _ORIGIN.fullmatch(origin)
        if found:
            default = _PORTS[found[1].lower()]
            name, port = _split(found[2])
            own_name, own_port = _split(host)
            if name and (name, port or default) == (own_name, own_port or default):
                return None
            if self._is_allowed(name):
                return None
        return ORIGIN.format(origin=_shown(origin))


def _split(authority: str) -> tuple[str, str]:
    """Returns the name and the port of `NAME[:PORT]`; the port is "" if there is none.

    Both are "" if the text is malformed.
    """
    found = _AUTHORITY.fullmatch(authority) if len(authority) <= MAX_HOST else None
    if found is None:
        return "", ""
    return found[1].strip("[]").rstrip(".").lower(), found[2] or ""


def _shown(header: str) -> str:
    return header if header.isascii() and len(header) <= MAX_HOST else "an invalid value"
