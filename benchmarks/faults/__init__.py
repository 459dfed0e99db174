"""A harness that breaks the pipeline on purpose, and counts what is lost and what is doubled."""
