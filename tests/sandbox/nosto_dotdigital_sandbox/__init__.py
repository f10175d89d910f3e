"""A sandbox of Nosto and dotdigital over real HTTP on loopback.

It implements the published documentation of both services, independently of the code under test: it imports nothing from the two
plugins.
"""

from __future__ import annotations

from nosto_dotdigital_sandbox.account import Account
from nosto_dotdigital_sandbox.faults import Fault, Faults
from nosto_dotdigital_sandbox.generator import Shop
from nosto_dotdigital_sandbox.journal import Call, Journal
from nosto_dotdigital_sandbox.nosto import ExportFile, NostoAccount
from nosto_dotdigital_sandbox.records import Contact
from nosto_dotdigital_sandbox.sandbox import Sandbox

__all__ = [
    "Account",
    "Call",
    "Contact",
    "ExportFile",
    "Fault",
    "Faults",
    "Journal",
    "NostoAccount",
    "Sandbox",
    "Shop",
]
