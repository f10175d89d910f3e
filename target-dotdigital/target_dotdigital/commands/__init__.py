"""The commands beside the sync, one module each."""
