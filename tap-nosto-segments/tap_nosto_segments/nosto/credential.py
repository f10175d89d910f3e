"""How a token is attached to a request, and to which requests."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Credential:
    """A token that is sent to one origin only (scheme, host and port).

    Args:
        origin: any URL of the origin.
        method: basic, bearer, header, query or none.
        name: name of the header or query parameter, for the methods header and query.
        token: the secret.
    """

    origin: str
    method: str
    name: str | None
    token: str | None

    def headers(self, url: str) -> dict[str, str]:
        """Return the authentication headers for a request to this URL."""
        if not self._is_same_origin(url):
            return {}
        if self.method == "basic":
            return {"Authorization": f"Basic {b64encode(f':{self.token}'.encode()).decode()}"}
        if self.method == "bearer":
            return {"Authorization": f"Bearer {self.token}"}
        return {self.name: self.token or ""} if self.method == "header" and self.name else {}

    def params(self, url: str) -> dict[str, str]:
        """Return the authentication query parameters for a request to this URL."""
        if self.method == "query" and self.name and self._is_same_origin(url):
            return {self.name: self.token or ""}
        return {}

    def _is_same_origin(self, url: str) -> bool:
        ours, theirs = urlsplit(self.origin), urlsplit(url)
        return (ours.scheme, ours.hostname, ours.port) == (theirs.scheme, theirs.hostname, theirs.port)
