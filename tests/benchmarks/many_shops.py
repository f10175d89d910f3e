"""Many shops and their dotdigital accounts behind two servers, one for Nosto and one for dotdigital."""

from __future__ import annotations

import base64
import contextlib
import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from measuring import quick_threads, shop, working
from nosto_dotdigital_sandbox import Account, ExportFile, Faults, Journal, NostoAccount, Shop
from nosto_dotdigital_sandbox.dotdigital import Dotdigital
from nosto_dotdigital_sandbox.limits import Limits
from nosto_dotdigital_sandbox.web import Response, Service
from support.running import START

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox.web import Request

FIELD = "NOSTOSEGMENT"


@dataclass(slots=True)
class Tenant:
    """One shop with its account. It has what `support.running.Pipeline` needs of a sandbox.

    Args:
        number: of the account, from 0.
        shop: makes the exports.
        nosto: serves the export.
        account: what dotdigital holds.
        export_url: where the export is, for all shops.
        api_url: dotdigital's API, for all accounts.
        user: the API user.
        password: its password.
    """

    number: int
    shop: Shop
    nosto: NostoAccount
    account: Account
    export_url: str
    api_url: str
    user: str
    password: str

    @property
    def name(self) -> str:
        """The account's name in the scheduler."""
        return f"shop_{self.number:03d}"

    def publish(self, day: int) -> None:
        """Put a day's export at Nosto."""
        self.nosto.export = ExportFile(self.shop.export(day), START + datetime.timedelta(days=day))

    def wrong(self, day: int) -> int:
        """Count the contacts of a day's export whose labels in the account are not those of the export."""
        return sum(self._labels(address) != set(names) for address, names in self.shop.rows(day))

    def _labels(self, address: str) -> set[str] | None:
        contact = self.account.find(address)
        value = contact and contact.data_fields.get(FIELD, "")
        return None if value is None else set(filter(None, str(value).split(";")))


class Tenants:
    """The accounts, and the two servers; they run until the end of a `with` block.

    Args:
        accounts: how many.
        contacts: of each.
    """

    def __init__(self, accounts: int, contacts: int) -> None:
        """Start the servers."""
        self.journal = Journal(bodies=False)
        self._cleanup = contextlib.ExitStack()
        nosto = Service("nosto", self._answer_export, self.journal, Faults())
        self._cleanup.callback(nosto.close)
        dotdigital = Service("dotdigital", self._answer_call, self.journal, Faults())
        self._cleanup.callback(dotdigital.close)
        self.all: list[Tenant] = []
        self._exports: dict[str, NostoAccount] = {}
        self._accounts: dict[str, Dotdigital] = {}
        for number in range(accounts):
            export, account = NostoAccount(token=f"token-{number}"), Account(name=f"Shop {number}")
            account.id += number
            account.import_polls = 0
            user, password = f"apiuser-{number}@apiconnector.example.com", f"password-{number}"
            self._exports[export.token] = export
            api = self._accounts[user] = Dotdigital(account, user, password, Limits(account.clock))
            api.endpoint = dotdigital.url
            made = Tenant(
                number, shop(contacts, seed=number + 1), export, account, f"{nosto.url}/export", dotdigital.url, user, password
            )
            self.all.append(made)

    def __enter__(self) -> Self:
        """Finish imports in the background, from now on."""
        self._cleanup.enter_context(quick_threads())
        self._cleanup.enter_context(working([tenant.account for tenant in self.all], lean=False))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._cleanup.close()

    def _answer_export(self, request: Request) -> Response:
        served = self._exports.get(_credentials(request)[1])
        return Response(401) if served is None else served.handle(request)

    def _answer_call(self, request: Request) -> Response:
        served = self._accounts.get(_credentials(request)[0])
        return Response(401) if served is None else served.handle(request)


def _credentials(request: Request) -> tuple[str, str]:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    user, _, password = base64.b64decode(encoded if kind == "Basic" else "").decode().partition(":")
    return user, password
