"""The command `nosto-dotdigital-sandbox`: serves both services on loopback until it is interrupted."""

from __future__ import annotations

import argparse
import datetime
import signal
import threading
from typing import TYPE_CHECKING

from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO
from nosto_dotdigital_sandbox.generator import Shop
from nosto_dotdigital_sandbox.nosto import ExportFile
from nosto_dotdigital_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_CONTACTS = 1_000


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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="nosto-dotdigital-sandbox",
        description="Serve a sandbox of Nosto and dotdigital on free ports of this machine until Ctrl-C.",
        epilog="\n".join(
            [
                *("deviations of dotdigital:", *(f"  {name:<32} {sentence}" for name, sentence in DOTDIGITAL.items())),
                *("dotdigital beside its documents:", *(f"  {name:<32} {sentence}" for name, sentence in LIVE.items())),
                *("deviations of Nosto:", *(f"  {name:<32} {sentence}" for name, sentence in NOSTO.items())),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--contacts",
        type=int,
        default=DEFAULT_CONTACTS,
        metavar="N",
        help=f"contacts in Nosto's export (default {DEFAULT_CONTACTS})",
    )
    parser.add_argument(
        "--deviation",
        action="append",
        default=[],
        choices=sorted(DOTDIGITAL | LIVE | NOSTO),
        metavar="NAME",
        help="make a service behave otherwise than its documents say; can be repeated, the names are below",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code."""
    options = parse(arguments)
    shop = Shop(options.contacts)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Sandbox(bodies=False) as sandbox:
        sandbox.account.deviations.update(name for name in options.deviation if name in DOTDIGITAL | LIVE)
        sandbox.nosto.deviations.update(name for name in options.deviation if name in NOSTO)
        sandbox.nosto.segments = list(shop.catalogue(0))
        sandbox.nosto.export = ExportFile(shop.export(0), datetime.datetime.now(datetime.UTC).replace(microsecond=0))
        print(f"# Nosto at {sandbox.export_url}, {options.contacts} contacts")
        print(f"# dotdigital at {sandbox.api_url}, in its own region at {sandbox.home_url}")
        for name in options.deviation:
            print(f"# {name}: {(DOTDIGITAL | LIVE | NOSTO)[name]}")
        for name, value in settings(sandbox).items():
            print(f"export {name}={value}")
        print("# Ctrl-C ends both", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
