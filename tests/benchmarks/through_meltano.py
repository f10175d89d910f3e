"""Both pairs through the real Meltano: ours on the second day, and the plain one that hands over everything and counts."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from measuring import BIN, HERE, measure, target_settings

if TYPE_CHECKING:
    from pathlib import Path

    from measuring import Measure
    from nosto_dotdigital_sandbox import Sandbox

ROOT = HERE.parents[1]
PLAIN = """
plugins:
  extractors:
  - name: plain-tap
    namespace: plain_tap
    executable: {folder}/plain-tap
    capabilities: [catalog, discover, state]
    config: {{path: {export}}}
  loaders:
  - name: plain-target
    namespace: plain_target
    executable: {folder}/plain-target
"""


class Pair:
    """A project with our pair after its first day, and one with the plain pair.

    Args:
        folder: where they go.
        sandbox: the stand-in.
        first: the first day's export.
        second: the second day's.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, first: Path, second: Path) -> None:
        """Run the first day."""
        self._folder, self._second = folder, second
        own = folder / "own"
        own.mkdir(parents=True)
        settings = target_settings(sandbox, folder / "asked")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_"))},
            "TAP_NOSTO_SEGMENTS_EXPORT_URL": str(first),
            "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": "0",
            **{
                f"TARGET_DOTDIGITAL_{name.upper()}": str(value)
                for name, value in settings.items()
                if name not in {"ledger_url", "report_dir"}
            },
        }
        text = (ROOT / "meltano.yml").read_text()
        (own / "meltano.yml").write_text(
            re.sub(r"pip_url: .*\n    executable: (\S+)", lambda found: f"executable: {BIN / found[1]}", text)
        )
        self._run(own, "tap-nosto-segments", "target-dotdigital")
        plain = folder / "plain"
        plain.mkdir()
        head = "project_id: plain\nsend_anonymous_usage_stats: false\ndefault_environment: prod\nenvironments:\n- name: prod\n"
        (plain / "meltano.yml").write_text(head + PLAIN.format(folder=plain, export=second))
        for name in ("plain-tap", "plain-target"):
            script = plain / name
            script.write_text(f'#!/bin/sh\nexec {BIN / "python"} {HERE / name.replace("-", "_")}.py "$@"\n')
            script.chmod(0o755)

    def ours(self) -> Measure:
        """The second day, from a copy of what the first one left."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._folder / "own", copy)
        self._environment["TAP_NOSTO_SEGMENTS_EXPORT_URL"] = str(self._second)
        return self._run(copy, "tap-nosto-segments", "target-dotdigital")

    def plain(self) -> Measure:
        """The plain pair, from nothing."""
        return self._run(self._folder / "plain", "--full-refresh", "plain-tap", "plain-target")

    def _run(self, project: Path, *arguments: str) -> Measure:
        return measure([BIN / "meltano", "run", *arguments], cwd=project, environment=self._environment)
