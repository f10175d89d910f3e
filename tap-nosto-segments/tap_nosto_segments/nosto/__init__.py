"""Nosto over HTTP: the Segment Export and the catalogue of segments."""
