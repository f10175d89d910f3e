"""Try each form of authorisation that the settings know, against the host of export_url only."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import requests

from tap_nosto_segments.config import AUTH_METHODS
from tap_nosto_segments.errors import SettingsError, TapError
from tap_nosto_segments.nosto.client import TRANSPORT_ERRORS, NostoClient, TransientStatusError
from tap_nosto_segments.nosto.credential import Credential
from tap_nosto_segments.nosto.exchange import origin_of
from tap_nosto_segments.nosto.export import REJECTED_TOKEN_STATUSES
from tap_nosto_segments.nosto.spool import GZIP_MAGIC
from tap_nosto_segments.nosto.urls import is_http
from tap_nosto_segments.settings import HEADER_NAME
from tap_nosto_segments.snapshots.head import WEB_PAGE

if TYPE_CHECKING:
    from tap_nosto_segments.settings import Settings

NAMED_METHODS = frozenset({"header", "query"})
HEAD_BYTES = 1 << 12


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one form of authorisation led to.

    Args:
        method: value for export_auth.
        opened: whether the file was opened.
        seen: what was answered, or why the form was not tried.
    """

    method: str
    opened: bool
    seen: str


def try_each_form(settings: Settings) -> list[Attempt]:
    """Request the export once with each form of authorisation, and read no more than its beginning.

    The token goes to the host of export_url and nowhere else; a redirect to another host is not followed.

    Raises:
        SettingsError: export_url is not an http address, or there is no token.
    """
    if not is_http(settings.export_url):
        msg = "--try-auth needs an https address in export_url, but the export is a file: no authorisation was tried. Omit --try-auth."
        raise SettingsError(msg)
    if not settings.export_token:
        msg = "--try-auth needs export_token, which is not set: no authorisation was tried. Set it, or omit --try-auth."
        raise SettingsError(msg)
    # one client each, so that no cookie of one answer opens the file for the next
    return [_try(settings, NostoClient(settings.request_timeout), method) for method in AUTH_METHODS]


def _try(settings: Settings, client: NostoClient, method: str) -> Attempt:
    name = settings.export_auth_name
    if method in NAMED_METHODS and not name:
        return Attempt(method, opened=False, seen="not tried: it needs export_auth_name")
    if method == "header" and not HEADER_NAME.fullmatch(name or ""):
        return Attempt(method, opened=False, seen="not tried: export_auth_name is not a valid header name")
    credential = Credential(settings.export_url, method, name, settings.export_token)
    try:
        with client.get(settings.export_url, credential, {"Accept-Encoding": "identity"}, stays_on_origin=True) as response:
            return _judge(method, response, has_link=settings.export_link_pointer is not None)
    except TransientStatusError as error:
        return Attempt(method, opened=False, seen=f"status {error.status}: temporarily unavailable")
    except (*TRANSPORT_ERRORS, requests.RequestException) as error:
        return Attempt(method, opened=False, seen=f"no answer ({type(error).__name__})")
    except TapError as error:
        return Attempt(method, opened=False, seen=str(error))


def _judge(method: str, response: requests.Response, *, has_link: bool) -> Attempt:
    status = response.status_code
    if response.is_redirect:
        target = origin_of(response.headers["Location"])
        return Attempt(method, opened=True, seen=f"status {status}: accepted, and redirected to {target}, which was not followed")
    if status in REJECTED_TOKEN_STATUSES:
        return Attempt(method, opened=False, seen=f"status {status}: refused")
    if status != HTTPStatus.OK:
        return Attempt(method, opened=False, seen=f"status {status}: not the file")
    head = response.raw.read(HEAD_BYTES, decode_content=False)
    if WEB_PAGE.match(head):
        return Attempt(method, opened=False, seen="status 200: a web page, probably for logging in")
    if not head or head.startswith(GZIP_MAGIC) or b'"email"' in head or has_link:
        return Attempt(method, opened=True, seen="status 200: opened the file")
    return Attempt(method, opened=False, seen="status 200: an answer that does not begin with a record")
