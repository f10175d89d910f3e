"""Singer target for dotdigital: keeps every contact's labels right, in bulk, without touching consent."""
