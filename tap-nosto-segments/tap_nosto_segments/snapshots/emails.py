"""The normal form of an e-mail address, as an SQL expression.

The target normalises addresses in the same way, so a contact has one spelling in the whole pipeline.
"""

from __future__ import annotations

from tap_nosto_segments.snapshots.database import quote_literal

# the characters that Python's str.strip removes
WHITESPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
CASED = r"\p{Lu}\p{Ll}\p{Lt}\x{aa}\x{ba}"
# characters between letters that do not end a word (Unicode 3.13, "case-ignorable")
CASE_IGNORABLE = r"\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:\x{b7}\x{387}\x{2018}\x{2019}\x{2024}\x{2027}"
FINAL_SIGMA = f"([{CASED}][{CASE_IGNORABLE}]*)\u03a3([{CASE_IGNORABLE}]*(?:[^{CASED}{CASE_IGNORABLE}]|$))"


def normalised(address: str) -> str:
    """Return the SQL expression for the normal form of an address.

    Addresses are trimmed, in NFC, in lower case, and in NFC again, exactly as Python's `strip`, `normalize` and `lower` do it. For
    visible ASCII, lower case is enough and much faster.

    Args:
        address: an SQL expression.
    """
    return f"CASE WHEN regexp_full_match({address}, '[!-~]*') THEN lower({address}) ELSE {_normalised_unicode(address)} END"


def _normalised_unicode(address: str) -> str:
    """Return the expression for any text.

    DuckDB's `lower` maps single characters, so a dotted I and a sigma at the end of a word, which Python's `lower` maps by their
    context, are replaced first.
    """
    trimmed = f"nfc_normalize(trim({address}, {quote_literal(WHITESPACE)}))"
    dotted = f"replace({trimmed}, '\u0130', 'i\u0307')"
    final = f"regexp_replace({dotted}, {quote_literal(FINAL_SIGMA)}, '\\1\u03c2\\2', 'g')"
    return f"nfc_normalize(lower({final}))"
