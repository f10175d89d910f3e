"""What the tap assumes about Nosto, as data. `--check` tests each assumption on the operator's own account."""

from __future__ import annotations

from tap_nosto_segments.assumptions import catalogue, content, transport
from tap_nosto_segments.assumptions.model import Assumption

ASSUMPTIONS: tuple[Assumption, ...] = (*transport.ASSUMPTIONS, *content.ASSUMPTIONS, *catalogue.ASSUMPTIONS)

__all__ = ["ASSUMPTIONS", "Assumption"]
