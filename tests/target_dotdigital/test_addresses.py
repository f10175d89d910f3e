"""Addresses: the quick form must never let through what the library refuses."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from target_dotdigital.text import _PLAIN, is_address, normalise


@given(st.from_regex(_PLAIN, fullmatch=True))
def test_the_quick_form_is_part_of_what_the_library_accepts(text: str) -> None:
    try:
        validate_email(text, check_deliverability=False)
        accepted = True
    except EmailNotValidError:
        accepted = False
    assert is_address(text) <= accepted


@pytest.mark.parametrize("text", ["a@example.com", "o'neil+x@mail.example.org", "ü@example.com", "a.b.c@xn--bcher-kva.example.com"])
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a@b", "@example.com", "a@@example.com", "a b@example.com", "a@example..com", "a" * 260 + "@example.com"]
)
def test_no_addresses(text: str) -> None:
    assert not is_address(text)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
