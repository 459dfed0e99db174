"""Errors of the local cloud; each message is one line that says what to do."""


class LocalCloudError(Exception):
    """The local cloud cannot start or go on."""
