"""E-mail addresses, which have one normal form, and URLs, which must be secure."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.running import run_tap
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.nosto.client import require_secure
from tap_nosto_segments.snapshots.parser import normalised
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from typing import Any

    from nosto_dotdigital_sandbox import Sandbox

ODD = [
    "e\u0301@example.com",
    "É@example.com",
    "\u00a0Ünal@EXAMPLE.com\u3000",
    "A\u030ango@example.com",
    "\u212bngo@example.com",
    "\u212aelvin@example.com",
    "İzmir@example.com",
    "I\u0307zmir2@example.com",
    "ΟΔΟΣ@example.com",
    "ΟΔΟΣ.ΑΒΣ@ΣΣ.com",
    "Σ@example.com",
    "Σ'@example.com",
    "STRAẞE@example.com",
    "ﬁ@example.com",
    "a\u0323\u0308@example.com",
    "a\u0308\u0323b@example.com",
    "ǅ@example.com",
    "\u1100\u1161@example.com",
    "\u0345A@example.com",
    "漢字@example.com",
    "PLAIN@example.com",
    "a b@example.com",
    "\u200bzero@example.com",
    "q\u0307\u0323@example.com",
    # only the lower-case letter has a composed form
    "J\u030can@example.com",
    "H\u0331\u030c@example.com",
    *(f"{chr(code)} Ann@EXAMPLE.com{chr(code)}" for code in range(0x3001) if chr(code).isspace()),
]
# a dot, an apostrophe and an accent do not end a word, which matters for a sigma before them
TRICKY = "aAσςΣΟİIıéE\u0301\u0307\u0323.'- @\u00a0\u00adªʰǅ漢"  # noqa: RUF001 - similar letters are the point


def by_python(email: str) -> str:
    """Return the normal form that both plugins use."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email.strip()).lower())


def by_duckdb(emails: list[str]) -> list[str]:
    with duckdb.connect() as database:
        rows = database.execute(f"SELECT {normalised('email')} FROM (SELECT unnest($1::VARCHAR[]) AS email)", [emails]).fetchall()  # noqa: S608 - no value from outside
    return [row[0] for row in rows]


def test_addresses_are_normalised_as_by_python() -> None:
    assert by_duckdb(ODD) == [by_python(email) for email in ODD]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(TRICKY, min_size=1, max_size=9), min_size=1, max_size=20))
def test_any_text_is_normalised_as_by_python(texts: list[str]) -> None:
    assert by_duckdb(texts) == [by_python(text) for text in texts]


@pytest.mark.parametrize(
    "url",
    [
        "https://nosto.com",
        "HTTPS://a-b.Nosto.com:443/x?y=\\#ä",
        "https://u:p@h.com/",
        "http://[::1]:8080/x",
        "http://127.0.0.2",
        "http://localhost:1/",
    ],
)
def test_secure_urls_are_accepted(url: str) -> None:
    require_secure(url, "export_url")


INSECURE = [
    "http://nosto.com",
    "http://127.0.0.1.evil.com/",
    "http://localhost\\@evil.com",
    "http://localhost@evil.com",
    "ftp://x",
    "nosto.com",
]
BAD_HOSTS = [
    "[1::2::3]",
    "evil.com\\@nosto.com",
    "a\tb.com",
    "a\x00.com",
    "nosto.com%2f.evil.com",
    "a b.com",
    "a_b.com",
    "ä.com",
    "",
    "[::1",
    "h:99999",
    "h:x",
]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *((url, "is not an https address") for url in INSECURE),
        *((f"https://{host}/export", "has no valid host") for host in BAD_HOSTS),
    ],
)
def test_insecure_urls_and_invalid_hosts_are_rejected(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"export_url {reason}"):
        require_secure(url, "export_url")


@pytest.mark.parametrize("url", ["http://files.example.com/x", "https://evil.com\\@nosto.com/x", "https://[::1/x"])
def test_the_settings_a_redirect_and_a_link_are_checked_before_anything_is_sent(
    sandbox: Sandbox, config: dict[str, Any], url: str
) -> None:
    outcomes = [run_tap({**config, "export_url": url})]
    sandbox.faults.add(Fault("answer", service="nosto", response=answer(302, headers={"Location": url})))
    outcomes.append(run_tap(config))
    link = b'{"url": "%s"}' % url.encode().replace(b"\\", b"\\\\")
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, link)))
    outcomes.append(run_tap({**config, "export_link_pointer": "/url"}))
    for outcome in outcomes:
        assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", SettingsError), outcome.log
    assert len(sandbox.journal.calls("nosto")) == 2


def test_escape_sequences_do_not_reach_the_terminal() -> None:
    shown = printable("r-17\x1b[2J\x1b]0;x\x07\x9b31m" + "z" * 500)
    assert (shown[:5], shown.isprintable(), len(shown)) == ("r-17z", True, 83)
