"""HTTP and dotdigital: calls, retries, the account, contacts read back, and rows as they go over the wire."""
