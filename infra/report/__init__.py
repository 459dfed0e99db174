"""The report of `make run`."""
