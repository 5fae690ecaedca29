"""On CI a skip is a failure, unless it is on this short list with its reason."""

import os

import pytest
from hypothesis import settings

# Before gRPC is imported: a child that becomes another user is forked, and always runs another program. gRPC's care for
# children that go on without one may abort it where other threads are in a call.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# An example may take as long as it must: what else this machine does is not known.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Beginning of the skip's sentence -> why it is allowed.
ALLOWED_SKIPS = {
    "the shared data folder is missing": "the data sets are not part of the project",
    "RAPPORT_PREVIOUS_TAG names no release": "a clone without the release before has nothing to upgrade from",
    "FULL=1": "the long form on the cluster takes more than an hour, and an image of its own",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turns a skip that nobody allowed into a failure."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        sentence = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(sentence.startswith(allowed) for allowed in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, and CI allows no such skip: {sentence}"
    return report
