"""The output of a run for people and monitoring: report, page, review and metrics."""
