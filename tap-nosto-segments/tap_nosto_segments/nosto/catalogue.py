"""The catalogue of segments (IDs and names) from Nosto's GraphQL API."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from tap_nosto_segments.errors import CatalogueError, ExportUnavailableError
from tap_nosto_segments.nosto.client import Credential, NostoClient, request_id
from tap_nosto_segments.text import is_blank

if TYPE_CHECKING:
    from collections.abc import Mapping

QUERY = msgspec.json.encode({"query": "query { segments { segments { id name } } }"})


class _Segment(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Segments(msgspec.Struct):
    segments: list[_Segment | None]


class _Data(msgspec.Struct):
    segments: _Segments | None = None


class _Response(msgspec.Struct):
    data: _Data | None = None
    errors: list[msgspec.Raw] | None = None


def fetch_catalogue(client: NostoClient, url: str, api_token: str) -> dict[str, str]:
    """Fetch Nosto's segments and return them as ID -> name.

    Raises:
        CatalogueError: Nosto did not return them.
    """
    credential = Credential(url, "basic", None, api_token)
    try:
        response = client.with_retries("Fetching Nosto's catalogue of segments", lambda: client.post_json(url, credential, QUERY))
    except ExportUnavailableError as error:
        raise CatalogueError(*error.args) from None
    if response.status_code != HTTPStatus.OK:
        identifier = request_id(response)
        msg = (
            f"Nosto's GraphQL API answered with status {response.status_code}{f' (request {identifier})' if identifier else ''}: the "
            "catalogue of segments was not read. Check api_token (type API_APPS) and graphql_url, or leave api_token empty."
        )
        raise CatalogueError(msg)
    try:
        answer = msgspec.json.decode(response.content, type=_Response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Response()
    # errors come with status 200, and data may then be partial
    if answer.errors or answer.data is None or answer.data.segments is None:
        msg = (
            "Nosto's GraphQL API answered with errors, or without segments: the catalogue was not read. Check that api_token is of "
            "type API_APPS, or leave it empty."
        )
        raise CatalogueError(msg)
    segments = [segment for segment in answer.data.segments.segments if segment]
    return {
        segment.id: segment.name
        for segment in segments
        if segment.id is not None and segment.name is not None and not is_blank(segment.name)
    }


def read_catalogue(
    client: NostoClient, url: str, api_token: str | None, known: Mapping[str, str]
) -> tuple[dict[str, str], CatalogueError | None]:
    """Return Nosto's segments as ID -> name, and why they could not be read; the known ones are returned then.

    Args:
        client: the client for Nosto.
        url: address of the GraphQL API.
        api_token: the token; without one, the catalogue is not read, and is empty.
        known: the catalogue of an earlier snapshot.
    """
    if api_token is None:
        return {}, None
    try:
        return fetch_catalogue(client, url, api_token), None
    except CatalogueError as error:
        return dict(known), error


def renamed_segments(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the segments whose name changed while their ID stayed the same, as old name -> new name."""
    return {name: now[key] for key, name in before.items() if key in now and now[key] != name}
