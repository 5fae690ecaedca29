"""What a value looks like to those who may not see it."""

import re
from typing import Final

HIDDEN: Final = "•••"
_EMAIL: Final = re.compile(r"([^@\s])[^@\s]*@([^@\s.])[^@\s]*(\.[^@\s.]{2,24})")


def masked(value: str) -> str:
    """An e-mail address as a•••@e•••.com, enough to tell two apart; of anything else nothing, not even its length."""
    found = _EMAIL.fullmatch(value)
    return f"{found[1]}{HIDDEN}@{found[2]}{HIDDEN}{found[3]}" if found else HIDDEN
