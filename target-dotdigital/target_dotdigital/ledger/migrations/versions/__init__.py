"""One file for each layout of the ledger."""
