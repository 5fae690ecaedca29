"""What every process bolts on: errors, calls, HTTP, telemetry, database, log. It names nothing of the domain."""
