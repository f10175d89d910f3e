"""`python -m tap_nosto_segments`."""

from __future__ import annotations

from tap_nosto_segments.cli import main

main()
