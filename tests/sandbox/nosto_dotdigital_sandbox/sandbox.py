"""The whole stand-in: Nosto, its file host, dotdigital in the account's own region, and dotdigital elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from nosto_dotdigital_sandbox.account import Account
from nosto_dotdigital_sandbox.dotdigital import Dotdigital, Limits
from nosto_dotdigital_sandbox.faults import Faults
from nosto_dotdigital_sandbox.journal import Journal
from nosto_dotdigital_sandbox.nosto import NostoAccount
from nosto_dotdigital_sandbox.web import Service

if TYPE_CHECKING:
    from collections.abc import Callable

USER = "apiuser-sandbox@apiconnector.example.com"
PASSWORD = "sandbox-password"


class Sandbox:
    """Starts the services on free ports and closes them at the end of a `with`.

    Args:
        clock: monotonic seconds, for limits and imports.
        wall: seconds since 1970, for X-RateLimit-Reset.
        bodies: whether the journal keeps bodies.
        latency: seconds that every answer of dotdigital takes.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        bodies: bool = True,
        latency: float = 0.0,
    ) -> None:
        """Start everything."""
        self.journal = Journal(bodies=bodies)
        self.faults = Faults()
        self.account = Account(clock=clock)
        self.limits = Limits(clock, wall)
        self.nosto = NostoAccount()
        self.user, self.password = USER, PASSWORD
        self.dotdigital = Dotdigital(self.account, USER, PASSWORD, self.limits)
        self._services = {
            name: Service(name, handle, self.journal, self.faults, latency=0.0 if name in {"nosto", "files"} else latency)
            for name, handle in {
                "nosto": self.nosto.handle,
                "files": self.nosto.handle_file,
                "dotdigital": self.dotdigital.handle,
                "elsewhere": self.dotdigital.handle_elsewhere,
                "forbidden": self.dotdigital.handle_forbidden,
            }.items()
        }
        self.nosto.file_host = self._services["files"].url
        self.dotdigital.endpoint = self._services["dotdigital"].url

    @property
    def export_url(self) -> str:
        """Nosto's address of the Segment Export."""
        return f"{self._services['nosto'].url}/export"

    @property
    def graphql_url(self) -> str:
        """Nosto's GraphQL address."""
        return f"{self._services['nosto'].url}/v1/graphql"

    @property
    def api_url(self) -> str:
        """The first address to ask for the account's own, as r1-api.dotdigital.com is."""
        return self._services["elsewhere"].url

    @property
    def home_url(self) -> str:
        """The account's own region."""
        return self._services["dotdigital"].url

    @property
    def forbidden_url(self) -> str:
        """A region that refuses this account."""
        return self._services["forbidden"].url

    def close(self) -> None:
        """Stop everything."""
        self.faults.clear()
        for service in self._services.values():
            service.close()

    def __enter__(self) -> Self:
        """Give the sandbox."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
