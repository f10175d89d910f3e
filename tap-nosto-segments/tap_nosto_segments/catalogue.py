"""The catalogue of segments from Nosto's GraphQL API: ids and names, and which were renamed (contracts/nosto.md 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tap_nosto_segments.errors import CatalogueError, ExportUnavailableError
from tap_nosto_segments.nosto import Credential, Nosto, request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_nosto_segments.settings import Settings

QUERY = msgspec.json.encode({"query": "query { segments { segments { id name } } }"})


class _Segment(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Segments(msgspec.Struct):
    segments: list[_Segment | None]


class _Data(msgspec.Struct):
    segments: _Segments | None = None


class _Answer(msgspec.Struct):
    data: _Data | None = None
    errors: list[msgspec.Raw] | None = None


def fetch_catalogue(settings: Settings, nosto: Nosto) -> dict[str, str]:
    """Give Nosto's segments, id -> name; nothing without an API token.

    Raises:
        CatalogueError: Nosto did not give them.
    """
    if settings.api_token is None:
        return {}
    credential = Credential(settings.graphql_url, "basic", None, settings.api_token)
    try:
        response = nosto.repeat("Asking Nosto for its segments", lambda: nosto.post(settings.graphql_url, credential, QUERY))
    except ExportUnavailableError as error:
        raise CatalogueError(*error.args) from None
    number = request_id(response)
    if response.status_code != 200:  # noqa: PLR2004 - OK
        msg = (
            f"Nosto's GraphQL API answered with status {response.status_code}{f' (request {number})' if number else ''}: the catalogue "
            "of segments was not read. Check api_token (type API_APPS) and graphql_url, or leave api_token empty."
        )
        raise CatalogueError(msg)
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Answer()
    # errors come with status 200, and data may then be partial (contracts/nosto.md 3)
    if answer.errors or answer.data is None or answer.data.segments is None:
        msg = (
            "Nosto's GraphQL API answered with errors, or with something else than segments: the catalogue was not read. Check that "
            "api_token is of type API_APPS, or leave it empty."
        )
        raise CatalogueError(msg)
    found = [segment for segment in answer.data.segments.segments if segment]
    return {segment.id: segment.name for segment in found if segment.id is not None and segment.name is not None}


def renamed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Give the segments that have the same id and another name: old name -> new name."""
    return {name: now[key] for key, name in before.items() if key in now and now[key] != name}
