"""The target's commands other than the sync itself, one module for each that is more than a call."""
