"""`python -m demo.journey < facts.json`: a process of its own, so that what it loads is gone when it ends.

With `--from-environment` the facts are variables, and the last line of the output is the report as JSON, for who reads the log.
"""

import asyncio
import json
import sys

import msgspec
from rich.console import Console

from demo.client import ClientError
from demo.journey.facts import Facts
from demo.journey.road import travel
from infra.failure import Refusal


def main() -> int:
    """Exit code 0 after the report, 2 after a sentence on standard error, 130 after Ctrl-C."""
    in_container = "--from-environment" in sys.argv[1:]
    try:
        facts = Facts.of_environment() if in_container else Facts.decode(sys.stdin.buffer.read())
        report = asyncio.run(travel(facts, Console()))
        if in_container:
            print(json.dumps(report))
    except msgspec.ValidationError as error:
        print(f"The journey's settings RAPPORT_JOURNEY_... are wrong: {error}", file=sys.stderr)
        return 2
    except (Refusal, ClientError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
