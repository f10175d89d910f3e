"""What one response of Nosto said about itself, without its body and without anything secret of its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, slots=True)
class Exchange:
    """One response: its origin and status, and the headers that describe the body.

    Args:
        origin: scheme, host and port of the request; the path and the query may hold a token or a signature.
        status: HTTP status.
        redirects_to: origin of the redirect's target; None if the response is not a redirect.
        content_type: media type in lower case, without parameters; empty if missing.
        content_encoding: Content-Encoding in lower case; empty if missing.
        length: Content-Length in bytes; None if missing.
        is_chunked: whether the body is sent in chunks, whose end is marked.
        etag: the ETag.
        last_modified: the Last-Modified date, as sent.
    """

    origin: str
    status: int
    redirects_to: str | None = None
    content_type: str = ""
    content_encoding: str = ""
    length: int | None = None
    is_chunked: bool = False
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, response: requests.Response, url: str, target: str | None) -> Exchange:
        """Describe a response.

        Args:
            response: the response; its body is not read.
            url: URL of the request.
            target: URL that it redirects to; None if it is not a redirect.
        """
        headers = response.headers
        length = headers.get("Content-Length", "")
        return cls(
            origin=origin_of(url),
            status=response.status_code,
            redirects_to=None if target is None else origin_of(target),
            content_type=printable(headers.get("Content-Type", "").partition(";")[0].strip().lower()),
            content_encoding=printable(headers.get("Content-Encoding", "").strip().lower()),
            length=int(length) if length.isascii() and length.isdigit() else None,
            is_chunked="chunked" in headers.get("Transfer-Encoding", "").lower(),
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
        )


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL, without user, path and query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return printable(f"{parts.scheme.lower()}://{parts.hostname or ''}{port}")
    except ValueError:
        return "an invalid address"
