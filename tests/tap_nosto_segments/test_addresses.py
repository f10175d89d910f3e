"""E-mail addresses, which have one normal form, and URLs, which must be secure."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from nosto_dotdigital_sandbox.web import Response
from support.running import START, run_tap
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.nosto.client import require_secure

if TYPE_CHECKING:
    from pathlib import Path

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
    "plain@example.com",
    "PLAIN2@example.com",
    " spaced@example.com",
    "q\u0307\u0323@example.com",
    # only the lower-case letter has a composed form
    "J\u030can@example.com",
    "H\u0331\u030c@example.com",
]


def normalised(email: str) -> str:
    """Return the normal form that both plugins use."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email.strip()).lower())


def emitted(folder: Path, emails: list[str]) -> list[str]:
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps({"email": email, "seg": [email]}) + "\n" for email in emails))
    outcome = run_tap({"export_url": str(path), "snapshot_uri": str(folder / "snapshots"), "max_export_age_hours": 0})
    assert outcome.code == 0, outcome.log
    return sorted(record["email"] for record in outcome.records())


def test_composed_and_decomposed_forms_are_one_contact(tmp_path: Path) -> None:
    pairs = [("caf\u00e9@example.com", "CAFE\u0301@example.com"), ("\u00c5sa@example.com", "a\u030asa@EXAMPLE.com ")]
    assert emitted(tmp_path, [email for pair in pairs for email in pair]) == sorted(normalised(first) for first, _ in pairs)


def test_addresses_are_normalised_as_by_python(tmp_path: Path) -> None:
    assert emitted(tmp_path, ODD) == sorted({normalised(email) for email in ODD})


# a dot, an apostrophe and an accent do not end a word, which matters for a sigma before them
TRICKY = "aAσςΣΟİIıéE\u0301\u0307\u0323.'- @\u00a0\u00adªʰǅ漢"  # noqa: RUF001 - similar letters are the point


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(TRICKY, min_size=1, max_size=9), min_size=1, max_size=20))
def test_any_text_is_normalised_as_by_python(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    emails = [f"{name}@example.com" for name in names]
    assert emitted(tmp_path_factory.mktemp("spelling"), emails) == sorted({normalised(email) for email in emails})


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


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_invalid_hosts_are_rejected(sandbox: Sandbox, tmp_path: Path, host: str) -> None:
    """In the settings, in a redirect, and in the link to the file."""
    config: dict[str, object] = {"export_url": f"https://{host}/export", "export_token": "t", "snapshot_uri": str(tmp_path / "s")}
    outcomes = [run_tap(config)]
    config["export_url"], config["export_token"] = sandbox.export_url, sandbox.nosto.token
    link = answer(302, headers={"Location": f"https://{host}/export".replace("\x00", "%00")})
    if "\x00" not in host and host.isascii():
        sandbox.faults.add(Fault("answer", service="nosto", response=link))
        outcomes.append(run_tap(config))
    body = json.dumps({"url": f"https://{host}/export"}).encode()
    sandbox.faults.add(Fault("answer", service="nosto", response=Response(200, body)))
    outcomes.append(run_tap({**config, "export_link_pointer": "/url"}))
    for outcome in outcomes:
        assert (outcome.code, outcome.output, len(outcome.errors)) == (1, "", 1), outcome.log
        assert "has no valid host" in outcome.errors[0]
        assert "defect" not in outcome.log


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


@pytest.mark.parametrize(
    "url",
    [
        "http://nosto.com",
        "http://127.0.0.1.evil.com/",
        "http://localhost\\@evil.com",
        "http://localhost@evil.com",
        "ftp://x",
        "nosto.com",
    ],
)
def test_insecure_urls_are_rejected(url: str) -> None:
    with pytest.raises(SettingsError, match="is not an https address"):
        require_secure(url, "export_url")


def test_escape_sequences_in_headers_do_not_reach_the_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.nosto.export = ExportFile(b"{}", START)
    sandbox.faults.add(
        Fault(
            "answer", service="nosto", response=answer(418, headers={"X-Request-Id": "r-17\x1b[2J\x1b]0;x\x07\x9b31m" + "z" * 500})
        )
    )
    config = {"export_url": sandbox.export_url, "export_token": sandbox.nosto.token, "snapshot_uri": str(tmp_path / "s")}
    outcome = run_tap(config)
    assert "status 418 (request r-17" in outcome.errors[0]
    assert outcome.errors[0].isprintable()
    assert len(outcome.errors[0]) < 300
