"""The whole sandbox: Nosto, its file host, dotdigital in the account's own region, and dotdigital in other regions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from nosto_dotdigital_sandbox.account import Account
from nosto_dotdigital_sandbox.dotdigital import Dotdigital
from nosto_dotdigital_sandbox.faults import Faults
from nosto_dotdigital_sandbox.journal import Journal
from nosto_dotdigital_sandbox.limits import Limits
from nosto_dotdigital_sandbox.nosto import NostoAccount
from nosto_dotdigital_sandbox.web import Service

if TYPE_CHECKING:
    from collections.abc import Callable

USER = "apiuser-sandbox@apiconnector.example.com"
PASSWORD = "sandbox-password"


class Sandbox:
    """Starts the services, and closes them at the end of a `with` block.

    Args:
        clock: returns monotonic seconds, for limits and imports.
        wall: returns seconds since 1970.
        bodies: whether the journal keeps bodies.
        latency: delay of every dotdigital response in seconds.
        port: first of five consecutive ports; 0 takes free ones.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        bodies: bool = True,
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        """Start all services.

        Raises:
            OSError: a port is in use.
        """
        self.journal = Journal(bodies=bodies)
        self.faults = Faults()
        self.account = Account(clock=clock, wall=wall)
        self.limits = Limits(clock, wall)
        self.nosto = NostoAccount()
        self.user, self.password = USER, PASSWORD
        self.dotdigital = Dotdigital(self.account, USER, PASSWORD, self.limits)
        handlers = {
            "nosto": self.nosto.handle,
            "files": self.nosto.handle_file,
            "dotdigital": self.dotdigital.handle,
            "elsewhere": self.dotdigital.handle_elsewhere,
            "forbidden": self.dotdigital.handle_forbidden,
        }
        self._services = {
            name: Service(
                name,
                handle,
                self.journal,
                self.faults,
                port=port + number if port else 0,
                latency=0.0 if name in {"nosto", "files"} else latency,
            )
            for number, (name, handle) in enumerate(handlers.items())
        }
        self.nosto.file_host = self._services["files"].url
        self.dotdigital.endpoint = self._services["dotdigital"].url
        self.dotdigital.forbidden = self._services["forbidden"].url

    @property
    def export_url(self) -> str:
        """URL of Nosto's Segment Export."""
        return f"{self._services['nosto'].url}/export"

    @property
    def graphql_url(self) -> str:
        """URL of Nosto's GraphQL API."""
        return f"{self._services['nosto'].url}/v1/graphql"

    @property
    def api_url(self) -> str:
        """URL that returns the account's own region, like r1-api.dotdigital.com."""
        return self._services["elsewhere"].url

    @property
    def home_url(self) -> str:
        """URL of the account's own region."""
        return self._services["dotdigital"].url

    @property
    def forbidden_url(self) -> str:
        """URL of a region that denies this account access."""
        return self._services["forbidden"].url

    def close(self) -> None:
        """Stop all services."""
        self.faults.clear()
        for service in self._services.values():
            service.close()

    def __enter__(self) -> Self:
        """Return the sandbox."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sandbox."""
        self.close()
