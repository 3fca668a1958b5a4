"""A client that a generator makes of the OpenAPI document, and nothing else, runs the management API."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.simulator.app import Options, simulator
from tests.support.management_api import management_api
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE

SECONDS = 120.0
SCRIPT = """
import asyncio, json, sys
from client.api_config import APIConfig
from client.models import OrganizationRequest, SubscriptionRequest
from client.services import async_connections_service, async_organizations_service, async_subscriptions_service

url, key, token = sys.argv[1:]
config = APIConfig(base_path=url, access_token=key)

async def main():
    organizations, subscriptions = async_organizations_service, async_subscriptions_service
    wish = OrganizationRequest(token=token, events=["invitee.created", "invitee.canceled"])
    added = await organizations.add_organization(config, data=wish, Idempotency_Key="add-it-once")
    again = await organizations.add_organization(config, data=wish, Idempotency_Key="add-it-once")
    org = added.organization.organization
    [connected] = (await async_connections_service.list_connections(config, org=org)).items
    wish = SubscriptionRequest(events=["invitee.created"], user=connected.user_uri)
    made = await subscriptions.create_subscription(config, org=org, data=wish, Idempotency_Key="for-one-user")
    during = await subscriptions.list_subscriptions(config, org=org, at_calendly=True)
    ended = await subscriptions.delete_subscription(config, org=org, id=made.id)
    print(json.dumps({
        "same": added == again,
        "first": [item.id for item in added.subscriptions],
        "made": made.id,
        "during": {item.id: item.at_calendly.state for item in during.items},
        "ended": ended.state,
    }))

asyncio.run(main())
"""


async def child(*command: str | Path, folder: Path) -> str:
    """Run a command to its end in a folder where only the generated client can be imported; returns its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()
    return told.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated client in it."""
    folder = tmp_path_factory.mktemp("generated")
    described = folder / "openapi.json"
    described.write_bytes(orjson.dumps(document()))
    generator = Path(sys.executable).with_name("openapi-python-generator")
    # What it writes is not made pretty: that takes nine tenths of the time, and nobody reads it.
    options = ("--library", "httpx", "--formatter", "none")
    await child(generator, described, folder / "client", *options, folder=folder)
    return folder


@pytest.mark.asyncio(loop_scope="module")
async def test_it_creates_and_deletes_a_subscription(client: Path, database: Database) -> None:
    """From a token to a subscription and back, with typed answers; the simulator has what it should at the end."""
    async with simulator(Options(seed="client", rate_limit=AMPLE)) as running:
        settings = settings_for(database).model_copy(
            update={"calendly": CalendlySettings(api_url=running.url, assumed_calls_per_minute=AMPLE)}
        )
        async with management_api(settings) as api:
            key = await api.key(Role.OPERATOR)
            told = await child(sys.executable, "-c", SCRIPT, api.url, key, running.owner_token, folder=client)
            left = running.engine.ledger.subscriptions()
    seen = orjson.loads(told.splitlines()[-1])
    [first] = seen["first"]
    assert seen["same"] is True
    assert seen["during"] == {first: "active", seen["made"]: "active"}
    assert seen["ended"] == "ended"
    assert [item.scope for item in left] == ["organization"]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_operation_has_its_function(client: Path) -> None:
    """The generator understands the whole document: a function for each operation, a class for each schema."""
    services = "\n".join(path.read_text(encoding="utf-8") for path in (client / "client/services").glob("*.py"))
    described = document()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert f"async def {operation['operationId']}(" in services, path
    classes = {path.stem for path in (client / "client/models").glob("*.py")}
    assert set(described["components"]["schemas"]) <= classes
