"""The target's commands other than the sync itself, one module each."""
