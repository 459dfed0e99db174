"""Prefixes of the keys in the data bucket; docs/records.md describes what each one holds."""

RAW_PREFIX = "raw-metrics/"
PLAN_PREFIX = "plans/"
PROCESSED_PREFIX = "processed/"
QUARANTINE_PREFIX = "quarantine/"
