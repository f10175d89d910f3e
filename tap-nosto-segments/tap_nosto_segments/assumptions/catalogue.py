"""Assumptions about Nosto's catalogue of segments."""

from __future__ import annotations

from tap_nosto_segments.assumptions.model import Assumption

SEGMENTS_PAGE = "Compare with the list of segments in Nosto's admin"

ASSUMPTIONS = (
    Assumption(
        id="catalogue_answers",
        statement="The GraphQL API returns the segments for an API_APPS token, sent with Basic and an empty user name.",
        source="contracts/nosto.md 3",
        grade="A",
        check="Reads the catalogue with api_token. Without one it is not tested.",
        by_hand="In Nosto's admin, look up the type of the token; Nosto's support enables API_APPS.",
        if_wrong=(
            "Runs continue with a warning and do not recognise renamed segments. A run that selects the stream segments fails before "
            "its first message."
        ),
        consequence="Correct api_token and graphql_url, or leave api_token empty.",
    ),
    Assumption(
        id="catalogue_names_match",
        statement="The names in the export are spelled as in the catalogue.",
        source="contracts/nosto.md 2 and 3",
        grade="D",
        check="Looks up every name of the export in the catalogue.",
        by_hand=f"{SEGMENTS_PAGE}.",
        if_wrong="Runs use the names of the export. A segment that is spelled otherwise has no ID, and its renaming is not recognised.",
        consequence="Choose segments by the names in the export, as --check lists them.",
    ),
    Assumption(
        id="names_are_unique",
        statement="No two segments have the same name.",
        source="contracts/nosto.md 6.7",
        grade="D",
        check="Looks for names that the catalogue holds more than once.",
        by_hand=f"{SEGMENTS_PAGE}.",
        if_wrong="The export cannot tell the segments apart: their contacts get one common label.",
        consequence="Rename one of the segments in Nosto before you use the name in dotdigital.",
    ),
    Assumption(
        id="ids_are_stable",
        statement="A segment keeps its ID.",
        source="contracts/nosto.md 3",
        grade="D",
        check="Compares the IDs with the catalogue in the newest snapshot. Without one it is not tested.",
        by_hand="Read the ID in the address of a segment's page in Nosto's admin on two days.",
        if_wrong="Renamed segments are not recognised: max_shrink_percent then stops the run on the day of a renaming.",
        consequence="Set shrink_override_date on a day on which you rename a segment.",
    ),
    Assumption(
        id="every_segment_is_exported",
        statement="The export names every segment that has contacts, including Nosto's own.",
        source="contracts/nosto.md 6.5",
        grade="D",
        check="Not possible: a segment of the catalogue that the export does not name may be empty.",
        by_hand="Compare the sizes of some segments in Nosto's admin with the numbers that --check shows.",
        if_wrong="Contacts do not get the labels of the segments that are left out.",
        consequence="Look in the settings of each segment in Nosto's admin for an option that includes it in exports.",
    ),
)
