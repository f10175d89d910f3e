"""Singer tap for Nosto's Segment Export."""
