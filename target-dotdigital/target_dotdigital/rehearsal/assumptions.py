"""All assumptions about dotdigital that the sync rests on, in the order of the report."""

from __future__ import annotations

from target_dotdigital.rehearsal.about_access import ACCESS
from target_dotdigital.rehearsal.about_contacts import CONTACTS
from target_dotdigital.rehearsal.about_imports import IMPORTS
from target_dotdigital.rehearsal.about_reading import READING
from target_dotdigital.rehearsal.about_values import VALUES

ASSUMPTIONS = (*ACCESS, *CONTACTS, *VALUES, *IMPORTS, *READING)
BY_ID = {assumption.id: assumption for assumption in ASSUMPTIONS}
