"""Sends messages through Apprise, an optional dependency (the extra `notify`), to the receivers in notify_urls."""

from __future__ import annotations

import logging
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from target_dotdigital.errors import SettingsError
from target_dotdigital.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apprise

# Apprise gives up a connection or a read after 4 seconds, unless a URL says otherwise (cto, rto); this limit is for all receivers together
MAX_SECONDS = 15.0
# above every level of the library
NEVER = logging.CRITICAL + 1
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
NOT_INSTALLED = (
    "notify_urls is set, but Apprise, which sends the notifications, is not installed, so nothing was done. Install "
    "target-dotdigital[notify], or remove the setting."
)


@dataclass(frozen=True, slots=True)
class Message:
    """A notification.

    Args:
        title: one line.
        body: text.
        kind: Apprise's type of message: failure, warning or success.
    """

    title: str
    body: str
    kind: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of notifications.

    Args:
        key: digest of the URL, which stands for it wherever something is stored.
        scheme: scheme of the URL, which stands for it in the log.
        service: Apprise with this receiver only.
    """

    key: str
    scheme: str
    service: apprise.Apprise


def load_receivers(urls: Sequence[str]) -> list[Receiver]:
    """Return the receivers of notify_urls; contacts none of them.

    Raises:
        SettingsError: Apprise is missing, does not understand a URL, or would send it unencrypted. The message does not quote the URL.
    """
    return [load_receiver(url, number) for number, url in enumerate(urls, start=1)]


def load_receiver(url: str, number: int) -> Receiver:
    """Return one receiver.

    Args:
        url: an Apprise URL.
        number: position in notify_urls, from 1.

    Raises:
        SettingsError: as for `load_receivers`.
    """
    try:
        import apprise  # noqa: PLC0415 - optional, and a tenth of a second to load
    except ImportError:
        raise SettingsError(NOT_INSTALLED) from None
    # its messages contain recipients, hosts and parts of URLs
    logging.getLogger("apprise").setLevel(NEVER)
    found = SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    # no time limit of Apprise's own: it would keep threads that the process waits for when it ends
    asset = apprise.AppriseAsset(app_id="target-dotdigital", app_desc="target-dotdigital", async_mode=False, service_timeout=0)
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        what = f"({scheme}://)" if scheme else "(without a scheme)"
        msg = (
            f"notify_urls: Apprise does not understand URL {number} {what}, so nothing was done. Correct it; appriseit.com/services lists "
            "the form for each service."
        )
        raise SettingsError(msg)
    if _is_unencrypted(plugin, scheme) and not is_loopback(_host(url)):
        msg = f"notify_urls: URL {number} ({scheme}://) would be sent unencrypted, so nothing was done. Use {scheme}s://."
        raise SettingsError(msg)
    service = apprise.Apprise(asset=asset)
    service.add(plugin)
    return Receiver(sha256(url.encode()).hexdigest(), scheme, service)


def send(message: Message, receivers: Sequence[Receiver], seconds: float = MAX_SECONDS) -> set[str]:
    """Send a message to all receivers at once, and return the keys of those that accepted it.

    Args:
        message: the message.
        receivers: whom to send it to.
        seconds: how long to wait for all of them; a receiver that has not answered by then has not accepted it.
    """
    accepted: set[str] = set()
    # daemon threads: a receiver that never answers must not keep the process from ending
    threads = [threading.Thread(target=_send, args=(message, receiver, accepted), daemon=True) for receiver in receivers]
    end = time.monotonic() + seconds
    with _silence():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    return accepted.copy()


def _send(message: Message, receiver: Receiver, accepted: set[str]) -> None:
    try:
        if receiver.service.notify(title=message.title, body=message.body, notify_type=message.kind, body_format="text"):
            accepted.add(receiver.key)
    except Exception:  # noqa: BLE001 - plugins may raise anything, and a traceback would show the URL
        return


@contextmanager
def _silence() -> Iterator[None]:
    """Log nothing: the libraries that Apprise uses log URLs at debug level. The run itself is over by now, and waits."""
    # also after the time limit, for a thread that is still waiting
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _is_unencrypted(plugin: Any, scheme: str) -> bool:
    """Return whether a service that knows an encrypted and an unencrypted form is addressed by the latter."""
    plain = plugin.protocol or ()
    return bool(plugin.secure_protocol) and scheme in ((plain,) if isinstance(plain, str) else plain)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
