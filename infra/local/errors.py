"""Errors of the local cloud. Each message is one line and says what to do."""

from ..command_line import CommandError


class LocalCloudError(CommandError):
    """The local cloud cannot start or continue."""
