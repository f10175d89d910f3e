"""The command `--check`: fetch the export, judge it and every assumption about Nosto; store and emit nothing."""
