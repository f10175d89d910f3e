"""SQL and the ledger: what is desired, what is confirmed, imports, runs and bookmarks."""
