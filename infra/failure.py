"""How the platform says that it can't start: one sentence, exit code 2, no traceback."""

EXIT_CODE = 2


class Refusal(Exception):
    """Something about this machine or this call is in the way. The message is one sentence for the person who typed it."""
