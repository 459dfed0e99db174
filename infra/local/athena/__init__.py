"""Athena: queries over the Glue catalog and the bucket, executed by DuckDB."""
