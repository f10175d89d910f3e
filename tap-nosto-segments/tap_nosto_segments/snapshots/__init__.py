"""Snapshots on disk: parse an export, store it as Parquet, and compare it with earlier ones."""
