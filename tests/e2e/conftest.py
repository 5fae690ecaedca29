"""One platform for all of these tests, as a stranger starts it: `rapport run`, with a small simulated shop.

To work on these tests, start one by hand (`rapport run --state S --port P --customers 400 --seed 7`) and name it:
RAPPORT_E2E_STATE=S RAPPORT_E2E_PORT=P. It stays up.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.running import Running, command_of, free_base, run_platform
from tests.e2e.shop import OpenShop, open_shop
from tests.e2e.tenants import Tenant, new_tenant

CUSTOMERS = 400


@pytest.fixture(scope="session")
def platform() -> Iterator[Running]:
    """Up for the whole session, its journey done."""
    if "RAPPORT_E2E_STATE" in os.environ:
        state = Path(os.environ["RAPPORT_E2E_STATE"])
        process = psutil.Process(int((state / "rapport.lock").read_text()))
        yield Running(process, state, int(os.environ["RAPPORT_E2E_PORT"]))
        return
    folder = Path(tempfile.mkdtemp(prefix="rapport-e2e-"))
    folder.chmod(0o755)
    state, port = folder / "state", free_base()
    running = run_platform(command_of(state, port, "--customers", str(CUSTOMERS), "--seed", "7"), state, port)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tenant(platform: Running) -> Tenant:
    """A tenant by the wall's clock, so that the simulated shop's stays where it is."""
    return new_tenant(platform)


@pytest.fixture
def client(platform: Running, tenant: Tenant) -> Iterator[httpx.Client]:
    """An HTTP client with that tenant's private key."""
    with platform.client(tenant.private_key) as http:
        yield http


@pytest.fixture(scope="session")
def shop(platform: Running) -> OpenShop:
    """A tenant that has one of everything."""
    return open_shop(platform)
