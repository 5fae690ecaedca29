"""What the console says, in the reader's language. One file a language in lang/; what services say comes as they say it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "lang"
DEFAULT: Final = "en"
_OTHER: Final = re.compile(r"[^a-z0-9]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Words:
    """One language. `words(key, **values)` is a sentence; a key that is not there is a bug."""

    language: str
    sentences: Mapping[str, str]

    def __call__(self, key: str, /, **values: Any) -> str:
        return self.sentences[key].format(**values)

    def count(self, key: str, how_many: int, /, **values: Any) -> str:
        """The sentence for so many: `key.one` or `key.other`."""
        return self(f"{key}.one" if how_many == 1 else f"{key}.other", **values)

    def name(self, kind: str, name: str) -> str:
        """The name of something that services call `name`; made readable where the dictionary does not know it."""
        known = self.sentences.get(f"{kind}.{_slug(name)}")
        return known if known is not None else readable(name)

    def knows(self, kind: str, name: str) -> bool:
        """Whether the dictionary has a name for it."""
        return f"{kind}.{_slug(name)}" in self.sentences


def _slug(name: str) -> str:
    """For firstName, first_name and "First Name" alike: first_name."""
    return _OTHER.sub("_", _HUMP.sub("_", name).lower()).strip("_")


def readable(name: str) -> str:
    """Makes "Days since last order" of days_since_last_order or daysSinceLastOrder; what has blanks is left as it is."""
    if " " in name or name[:1].isupper():
        return name
    spaced = _HUMP.sub("_", name).lower().replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def _load() -> dict[str, Words]:
    return {path.stem: Words(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))}


LANGUAGES: Final[Mapping[str, Words]] = _load()


def choose(asked: str | None, kept: str | None, accepted: str | None) -> Words:
    """By what was asked for in the address, else what was kept in the cookie, else the browser's Accept-Language."""
    for name in (asked, kept, *_by_weight(accepted or "")):
        if name and (words := LANGUAGES.get(name.lower().split("-")[0])):
            return words
    return LANGUAGES[DEFAULT]


def _by_weight(accepted: str) -> list[str]:
    """ "de, zh-CN;q=0.8, en;q=0.9" as names, the most wanted first (RFC 9110, 12.5.4)."""
    weighted: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        name, _, weight = part.partition(";")
        try:
            weighted.append((float(weight.strip().removeprefix("q=") or 1), name.strip()))
        except ValueError:
            continue
    return [name for weight, name in sorted(weighted, key=lambda pair: -pair[0]) if weight > 0]
