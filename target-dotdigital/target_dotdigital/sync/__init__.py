"""One run, station by station: the only part that joins dotdigital and the ledger."""
