"""Test the assumptions about Nosto's catalogue of segments."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tap_nosto_segments.checking.verdict import Finding, compared, not_tested
from tap_nosto_segments.guards import SEGMENT_ID
from tap_nosto_segments.text import enumerated, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tap_nosto_segments.checking.evidence import Evidence

MAX_LISTED_NAMES = 5


def _catalogue_answers(evidence: Evidence) -> Finding:
    if evidence.settings.api_token is None:
        return not_tested("api_token is not set")
    error = evidence.catalogue_error
    seen = f"{len(evidence.catalogue):,} segments" if error is None else str(error).partition(":")[0]
    return compared(holds=error is None, expected="a list of segments", seen=seen)


def _catalogue_names_match(evidence: Evidence) -> Finding:
    names = [name for name in evidence.counts if not SEGMENT_ID.fullmatch(name)]
    if not names:
        return not_tested("the export names no segment")
    known = set(evidence.catalogue.values())
    missing = sorted(name for name in names if name not in known)
    seen = f"{len(missing):,} are not in it: {_listed(missing)}" if missing else "all are in it"
    return compared(holds=not missing, expected=f"{len(names):,} names of the export in the catalogue", seen=seen)


def _names_are_unique(evidence: Evidence) -> Finding:
    repeated = sorted(name for name, count in Counter(evidence.catalogue.values()).items() if count > 1)
    seen = f"repeated: {_listed(repeated)}" if repeated else "no name twice"
    return compared(holds=not repeated, expected="different names", seen=seen)


def _ids_are_stable(evidence: Evidence) -> Finding:
    before = {name: key for key, name in (evidence.newest.catalogue if evidence.newest else {}).items()}
    now = {name: key for key, name in evidence.catalogue.items()}
    common = before.keys() & now.keys()
    if not common:
        return not_tested("there is no snapshot with the same segments")
    changed = sorted(name for name in common if before[name] != now[name] and before[name] not in evidence.catalogue)
    seen = f"other IDs for: {_listed(changed)}" if changed else f"the same IDs for {len(common):,} segments"
    return compared(holds=not changed, expected="the IDs of the newest snapshot", seen=seen)


def _listed(names: Collection[str]) -> str:
    return enumerated([shown_name(name) for name in names], MAX_LISTED_NAMES)


def _of_catalogue(test: Callable[[Evidence], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs the catalogue."""

    def run(evidence: Evidence) -> Finding:
        if evidence.settings.api_token is None:
            return not_tested("api_token is not set")
        return test(evidence) if evidence.catalogue_error is None else not_tested("the catalogue was not read")

    return run


TESTS: Mapping[str, Callable[[Evidence], Finding]] = {
    "catalogue_answers": _catalogue_answers,
    "catalogue_names_match": _of_catalogue(_catalogue_names_match),
    "names_are_unique": _of_catalogue(_names_are_unique),
    "ids_are_stable": _of_catalogue(_ids_are_stable),
    "every_segment_is_exported": lambda _: not_tested("a segment that the export does not name may be empty"),
}
