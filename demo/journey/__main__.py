"""`python -m demo.journey < facts.json`: a process of its own, so that what it loads is gone when it ends."""

import asyncio
import sys

from rich.console import Console

from demo.client import ClientError
from demo.journey.facts import Facts
from demo.journey.road import travel
from infra.failure import Refusal


def main() -> int:
    """Exit code 0 after the report, 2 after a sentence on standard error, 130 after Ctrl-C."""
    facts = Facts.decode(sys.stdin.buffer.read())
    try:
        asyncio.run(travel(facts, Console()))
    except (Refusal, ClientError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
