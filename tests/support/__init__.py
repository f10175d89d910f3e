"""What the tests share: running the pipeline, an oracle, and the rules of the wire."""
