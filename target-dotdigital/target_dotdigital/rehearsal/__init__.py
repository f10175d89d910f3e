"""The rehearsal: checks on the operator's own account, with the operator's own addresses, what the sync assumes about dotdigital."""
