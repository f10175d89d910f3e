"""Singer target for dotdigital: keeps the labels of all contacts current through bulk imports, without touching consent."""
