"""The command `nosto-dotdigital-sandbox`: serves both services on loopback until it is interrupted."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import os
import shlex
import signal
import threading
from typing import TYPE_CHECKING

from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO
from nosto_dotdigital_sandbox.generator import Shop
from nosto_dotdigital_sandbox.nosto import ExportFile
from nosto_dotdigital_sandbox.sandbox import Sandbox
from nosto_dotdigital_sandbox.web import Request, Response, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_CONTACTS = 1_000
# how `next-day` finds the sandbox that is running
PORT_VARIABLE = "NOSTO_DOTDIGITAL_SANDBOX_PORT"
# one that `next-day` calls, then those of `Sandbox`
PORTS = 6
MAX_PORT = 65_535
# a shop with millions of contacts takes a while to generate
ANSWER_SECONDS = 600


class Days:
    """The shop's exports, one day after the other.

    Args:
        sandbox: where the day's export is published.
        shop: generates the exports.
        day: the first day to publish; 0 is the shop's first.
    """

    def __init__(self, sandbox: Sandbox, shop: Shop, day: int) -> None:
        """Publish the first day."""
        self.day = day
        self._sandbox = sandbox
        self._shop = shop
        self._lock = threading.Lock()
        self._publish(datetime.datetime.now(datetime.UTC))

    def handle(self, request: Request) -> Response:
        """Publish the next day on `POST /next-day`."""
        if (request.method, request.path) != ("POST", "/next-day"):
            return Response(404)
        with self._lock:
            self.day += 1
            export = self._sandbox.nosto.export
            assert export is not None
            assert export.made is not None
            # Last-Modified has whole seconds, and an export that is not newer would not be read
            self._publish(max(datetime.datetime.now(datetime.UTC), export.made + datetime.timedelta(seconds=1)))
            return Response(200, f"Nosto now exports day {self.day}.".encode(), {"Content-Type": "text/plain"})

    def _publish(self, made: datetime.datetime) -> None:
        self._sandbox.nosto.segments = list(self._shop.catalogue(self.day))
        self._sandbox.nosto.export = ExportFile(self._shop.export(self.day), made.replace(microsecond=0))


def settings(sandbox: Sandbox) -> dict[str, str]:
    """Return the environment variables that point the two plugins to a sandbox."""
    return {
        "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
        "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": sandbox.nosto.token,
        "TAP_NOSTO_SEGMENTS_GRAPHQL_URL": sandbox.graphql_url,
        "TAP_NOSTO_SEGMENTS_API_TOKEN": sandbox.nosto.api_token,
        "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
        "TARGET_DOTDIGITAL_API_USER": sandbox.user,
        "TARGET_DOTDIGITAL_API_PASSWORD": sandbox.password,
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="nosto-dotdigital-sandbox",
        description="Serve a sandbox of Nosto and dotdigital on this machine until Ctrl-C.",
        epilog="\n".join(
            [
                *("deviations of dotdigital:", *(f"  {name:<32} {sentence}" for name, sentence in DOTDIGITAL.items())),
                *("dotdigital beside its documents:", *(f"  {name:<32} {sentence}" for name, sentence in LIVE.items())),
                *("deviations of Nosto:", *(f"  {name:<32} {sentence}" for name, sentence in NOSTO.items())),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "command",
        nargs="?",
        choices=["serve", "next-day"],
        default="serve",
        help=f"next-day: let a running sandbox export the next day; finds it by --port, or by {PORT_VARIABLE} in the environment",
    )
    made.add_argument(
        "--contacts",
        type=_count,
        default=DEFAULT_CONTACTS,
        metavar="N",
        help=f"contacts in Nosto's export (default {DEFAULT_CONTACTS})",
    )
    made.add_argument("--day", type=_count, default=0, metavar="N", help="day of the first export (default 0)")
    made.add_argument(
        "--port", type=_port, default=0, metavar="N", help=f"first of {PORTS} consecutive ports (default: any free ones)"
    )
    made.add_argument(
        "--deviation",
        action="append",
        default=[],
        choices=sorted(DOTDIGITAL | LIVE | NOSTO),
        metavar="NAME",
        help="make a service behave otherwise than its documents say; can be repeated, the names are below",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    try:
        return next_day(options.port) if options.command == "next-day" else serve(options)
    except (OSError, ValueError, http.client.HTTPException) as error:
        made.error(f"{options.command}: {error}")


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        OSError: a port is in use.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Sandbox(bodies=False, port=options.port + 1 if options.port else 0) as sandbox:
        sandbox.account.deviations.update(name for name in options.deviation if name in DOTDIGITAL | LIVE)
        sandbox.nosto.deviations.update(name for name in options.deviation if name in NOSTO)
        days = Days(sandbox, Shop(options.contacts), options.day)
        control = Service("control", days.handle, sandbox.journal, sandbox.faults, port=options.port)
        print(f"# Nosto at {sandbox.export_url}, {options.contacts} contacts, day {options.day}")
        print(f"# dotdigital at {sandbox.api_url}, in its own region at {sandbox.home_url}")
        for name in options.deviation:
            print(f"# {name}: {(DOTDIGITAL | LIVE | NOSTO)[name]}")
        for name, value in {**settings(sandbox), PORT_VARIABLE: str(control.server_address[1])}.items():
            print(f"export {name}={shlex.quote(value)}")
        print("# `nosto-dotdigital-sandbox next-day` exports the next day; Ctrl-C ends the sandbox", flush=True)
        ended.wait()
        control.close()
    return 0


def next_day(port: int) -> int:
    """Let the sandbox that is running export its next day.

    Raises:
        ValueError: the port is not known.
        OSError: no sandbox is running at this port.
        http.client.HTTPException: something else is.
    """
    port = port or _port(os.environ.get(PORT_VARIABLE, "0"))
    if not port:
        msg = f"set {PORT_VARIABLE} to the value that the sandbox printed, or give --port"
        raise ValueError(msg)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", "/next-day")
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            msg = f"what answers at port {port} is not the sandbox's first port"
            raise OSError(msg)
        print(answer.read().decode())
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_PORT - PORTS:
        msg = f"there is no port {text}"
        raise ValueError(msg)
    return number


if __name__ == "__main__":
    raise SystemExit(main())
