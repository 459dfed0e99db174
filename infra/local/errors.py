"""Errors of the local cloud; each message is one line that says what to do."""

from ..command_line import CommandError


class LocalCloudError(CommandError):
    """The local cloud cannot start or continue."""
