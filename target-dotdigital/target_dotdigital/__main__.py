"""`python -m target_dotdigital`."""

from __future__ import annotations

from target_dotdigital.cli import CommandLine

CommandLine.cli()
