"""One folder, one process, one image, one database schema, one noun everywhere."""

import os

# gRPC's core writes lines of its own beside ours, which are no JSON and know no request. It reads this when it is imported,
# and this package is imported before it. What fails is told to whoever calls.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
