"""Assumptions about how Nosto delivers the export. Nosto does not document this part publicly."""

from __future__ import annotations

from tap_nosto_segments.assumptions.model import Assumption

EXPORT = "contracts/nosto.md 2"
OPEN_POINTS = "contracts/nosto.md 2, not established"
SETTINGS_PAGE = "In Nosto's admin, open Settings, Integrations, Segment Export"

ASSUMPTIONS = (
    Assumption(
        id="token_opens_export",
        statement="The integration token, sent as export_auth says, opens the export.",
        source=OPEN_POINTS,
        grade="D",
        check="Requests the export with the configured token. --try-auth shows which form of authorisation opens it.",
        by_hand=f"{SETTINGS_PAGE}, and compare the token and the way to send it with the settings.",
        if_wrong="Every run fails before its first message, with the status that Nosto returned.",
        consequence="Correct export_token, or set export_auth to the form that --try-auth finds.",
    ),
    Assumption(
        id="export_exists",
        statement="Nosto has made an export: the first one follows within 24 hours of enabling.",
        source=EXPORT,
        grade="A",
        check="Requests the export; status 404, 202, 204 or 425 means that there is none yet.",
        by_hand=f"{SETTINGS_PAGE}, and see when the export was enabled.",
        if_wrong="Every run fails before its first message, and says that there is no export yet.",
        consequence="Wait for a day after enabling the export. If it was enabled earlier, correct export_url.",
    ),
    Assumption(
        id="answer_is_export",
        statement="A GET request to export_url is answered with the export itself, perhaps after redirects.",
        source=OPEN_POINTS,
        grade="D",
        check="Looks at the status and at the beginning of the answer: a web page, or JSON that holds a link, is not the export.",
        by_hand="Open export_url as Nosto's admin describes it, and look at what arrives.",
        if_wrong="Every run fails before its first message, because the answer has no records with addresses and names.",
        consequence="Correct export_url and export_auth. For a link in JSON, set export_link_pointer to the pointer that --check shows.",
    ),
    Assumption(
        id="redirects_are_secure",
        statement="Redirects lead to https addresses only.",
        source="contracts/nosto.md 2 and 3",
        grade="D",
        check="Follows the redirects, and stops before one that leads to plain http.",
        by_hand="Request export_url with curl -sI (without the token) and read the Location header.",
        if_wrong="Every run fails before it sends anything to the unsafe address.",
        consequence="Do not activate. Ask Nosto's support for an https address.",
    ),
    Assumption(
        id="served_by_configured_host",
        statement="The file comes from the host of export_url.",
        source=OPEN_POINTS,
        grade="D",
        check="Compares the origin (scheme, host, port) of the final answer with that of export_url.",
        by_hand="Request export_url with curl -sI and read the Location header.",
        if_wrong="Runs succeed: the tap follows, and sends the token to the host of export_url only.",
        consequence="Nothing to change. If outgoing connections are restricted, allow the other host, too.",
    ),
    Assumption(
        id="arrives_complete",
        statement="The file arrives as a whole: as long as announced, with an intact gzip checksum and a complete last line.",
        source=OPEN_POINTS,
        grade="D",
        check="Downloads the file and compares the bytes received with Content-Length; verifies gzip checksum and last line.",
        by_hand="Download the file twice with curl and compare the sizes and the last lines.",
        if_wrong="Runs fail before their first message, after four attempts if the connection breaks off.",
        consequence="Run the check again later. If it is refuted again, send the request ID and the sizes to Nosto's support.",
    ),
    Assumption(
        id="length_is_announced",
        statement="The end of the file can be recognised: by Content-Length, chunked transfer or gzip.",
        source=OPEN_POINTS,
        grade="D",
        check="Reads the headers Content-Length and Transfer-Encoding, and the first bytes of the file.",
        by_hand="Request export_url with curl -sv and read the response headers.",
        if_wrong="A download that breaks off exactly at the end of a line looks complete; only max_shrink_percent then stops the run.",
        consequence="Keep max_shrink_percent low.",
    ),
    Assumption(
        id="content_type_is_json",
        statement="The content type is JSON, JSON lines, plain text or binary.",
        source=EXPORT,
        grade="D",
        check="Reads the header Content-Type.",
        by_hand="Request export_url with curl -sI and read the header Content-Type.",
        if_wrong="Runs are not affected: the tap reads the content and ignores the type.",
        consequence="Nothing to change if the other assumptions about the content are confirmed.",
    ),
    Assumption(
        id="encoding_is_labelled_correctly",
        statement="A body that is labelled as gzip (Content-Encoding) is gzip.",
        source=OPEN_POINTS,
        grade="D",
        check="Compares the header Content-Encoding with the first bytes of the body.",
        by_hand="Download the file with curl, without --compressed, and look at it with the command file.",
        if_wrong="Runs are not affected: the tap recognises gzip by its first bytes, whatever the label says.",
        consequence="Nothing to change. Other programs may fail to read the file.",
    ),
    Assumption(
        id="etag_is_sent",
        statement="The answer carries an ETag.",
        source=OPEN_POINTS,
        grade="D",
        check="Reads the header ETag.",
        by_hand="Request export_url with curl -sI and read the header ETag.",
        if_wrong=(
            "Runs compare by Last-Modified instead. Without both, each run downloads the whole export, and recognises an unchanged one "
            "by its SHA-256."
        ),
        consequence="Nothing to change.",
    ),
    Assumption(
        id="last_modified_is_sent",
        statement="Last-Modified is the time at which the export was made.",
        source=OPEN_POINTS,
        grade="D",
        check="Reads the header Last-Modified, and compares it with the time of the request.",
        by_hand="Request export_url twice with curl -sI, a minute apart: Last-Modified must be the same, and hours old.",
        if_wrong=(
            "The age of the export is unknown: max_export_age_hours cannot stop a run whose export is out of date. "
            "exported_at is then the time of the download."
        ),
        consequence="Check in Nosto's admin from time to time that the export is still made every day.",
    ),
    Assumption(
        id="unchanged_export_is_recognised",
        statement="A request with the ETag and Last-Modified of the current file is answered with 304 and no body.",
        source=OPEN_POINTS,
        grade="D",
        check="Repeats the request with If-None-Match and If-Modified-Since.",
        by_hand="Repeat the request with curl and the headers If-None-Match and If-Modified-Since.",
        if_wrong="Each run downloads the whole export, recognises an unchanged one by its SHA-256, and emits no record for it.",
        consequence="Nothing to change. Runs more often than once a day cost a download each.",
    ),
    Assumption(
        id="changed_export_gets_new_etag",
        statement="A new export has another ETag than the one before.",
        source=OPEN_POINTS,
        grade="D",
        check="Compares ETag and content with those of the newest snapshot. Without a snapshot of an earlier export it is not tested.",
        by_hand="Note the ETag on two consecutive days.",
        if_wrong=(
            "Nosto answers 304 although the export has changed. The tap notices it by the Last-Modified header of that answer; "
            "without one, it downloads the whole export again after a day, or stops when the known one is older than max_export_age_hours."
        ),
        consequence="Run once a day at most. Report it to Nosto's support.",
    ),
    Assumption(
        id="made_daily",
        statement="Nosto makes the export once a day.",
        source=EXPORT,
        grade="A",
        check="Compares Last-Modified with max_export_age_hours (48 hours if that is 0).",
        by_hand=f"{SETTINGS_PAGE}, and look for the time of the last export.",
        if_wrong="Runs fail before their first message as soon as the export is older than max_export_age_hours.",
        consequence="Find out in Nosto's admin why the export stopped. Raise max_export_age_hours only if Nosto makes it less often.",
    ),
)
