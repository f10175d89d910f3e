"""What people see of a run: report, page, review and metrics."""
