"""Shows everything that decides over one contact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from target_dotdigital.addresses import normalise
from target_dotdigital.commands.companions import Companion, command_option
from target_dotdigital.commands.contact_facts import ContactFacts, facts_of
from target_dotdigital.commands.contact_text import contact_json, contact_lines, live_json, live_lines
from target_dotdigital.commands.reading import open_view
from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.live import read_contact
from target_dotdigital.errors import SettingsError
from target_dotdigital.ledger.contact_queries import find_contact
from target_dotdigital.texts import without_controls

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.live import LiveContact
    from target_dotdigital.settings import Settings

EXCLUDED = "exclude_emails matches the address: records of the contact are not used, and its labels stay as they are."


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What the operator asks for on the command line.

    Args:
        email: the address, as entered.
        live: whether to read the contact from dotdigital.
        json: whether to print JSON.
    """

    email: str
    live: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class _Live:
    """What dotdigital holds now; the contact is None if there is none."""

    contact: LiveContact | None


def run_explain(settings: Settings, clock: Clock, request: Any) -> None:
    """Print what the ledger and, on request, dotdigital know about a contact, without taking the lock of a run that is working.

    Raises:
        SettingsError: the ledger does not know the address.
        TargetError: the ledger is missing or unusable, or dotdigital cannot be read.
    """
    asked = request if isinstance(request, ExplainRequest) else ExplainRequest(str(request))
    email = normalise(asked.email)
    excluded = settings.is_excluded is not None and settings.is_excluded(email)
    account_id, live = _read_live(settings, clock, email) if asked.live else (None, None)
    found = _read_ledger(settings, clock, email, account_id)
    if asked.json:
        _print_json(email, found, live, excluded=excluded)
    else:
        _print(email, found, live, excluded=excluded)
    if not found:
        known = " dotdigital holds the contact, but no run has read it back." if live and live.contact else ""
        why = EXCLUDED if excluded else "No input for this account has named it. Check the spelling."
        msg = f"The ledger does not know this address, so there is nothing to explain.{known} {why}"
        raise SettingsError(msg)


def _read_live(settings: Settings, clock: Clock, email: str) -> tuple[int, _Live]:
    client, info = accounts.connect(settings, clock)
    account = accounts.read_account(settings, client, info)
    return account.id, _Live(read_contact(client, account, email))


def _read_ledger(settings: Settings, clock: Clock, email: str, account_id: int | None) -> list[ContactFacts]:
    """Return what each scope of the account knows about the contact, the configured scope first."""
    with open_view(settings, clock, account_id) as view:
        scopes = {scope.id: scope for scope in (view.scope, *view.others) if scope is not None}
        return [
            facts_of(
                view.connection,
                scopes[contact.scope],
                contact,
                settings,
                clock.wall(),
                configured=scopes[contact.scope] == view.scope,
            )
            for contact in find_contact(view.connection, list(scopes), email)
        ]


def _print(email: str, found: list[ContactFacts], live: _Live | None, *, excluded: bool) -> None:
    if not found and live is None:
        return
    click.echo(f"Contact:      {without_controls(email)}")
    if excluded:
        click.echo(f"Excluded:     {EXCLUDED}")
    for facts in found:
        click.echo("\n".join(contact_lines(facts)))
    if live is not None:
        click.echo("\n".join(live_lines(live.contact, next((facts for facts in found if facts.configured), None))))


def _print_json(email: str, found: list[ContactFacts], live: _Live | None, *, excluded: bool) -> None:
    shown: dict[str, Any] = {"email": email, "excluded": excluded, "scopes": list(map(contact_json, found))}
    if live is not None:
        shown["live"] = live_json(live.contact)
    click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


def options() -> list[click.Option]:
    """Return the command-line options of this command."""
    return [
        command_option(
            "--explain",
            ExplainRequest,
            "live",
            "json",
            metavar="EMAIL",
            help="Show everything that decides over one contact: source, labels, rejections, deliveries. Reads only the ledger.",
        ),
        Companion(
            ["--live"],
            ("explain",),
            is_flag=True,
            default=None,
            help="With --explain: also log in and show what dotdigital holds now.",
        ),
    ]
