"""Fault injection: break the pipeline on purpose and count lost and duplicated data."""
