"""What makes a new installation worth watching: an organization that is subscribed, and meetings that happen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pydantic import SecretStr

from ingest.errors import SlotwireError
from ingest.foundation.settings import Settings

STORY_SECONDS = 3.0
"""Between two steps of the story."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The demo organization's subscription.

    Attributes:
        organization: its URI.
        hook_url: the address Calendly sends to.
        signing_key: what it signs with.
        token: the simulator's token of the organization's owner.
    """

    organization: str
    hook_url: str = field(repr=False)
    signing_key: str = field(repr=False)
    token: str = field(repr=False)


async def subscribe(settings: Settings) -> Subscribed:
    """Subscribe the simulator's first organization by the manager's own action, or find that it is.

    Raises:
        SlotwireError: the simulator or Postgres refused.
    """
    from ingest.control.calendly_client import transport
    from ingest.control.hooks import HookAddresses
    from ingest.control.signing_keys import load_keys
    from ingest.control.subscriptions import Subscriptions, Wanted
    from ingest.control.vault import Vault
    from ingest.foundation.clock import SystemClock
    from ingest.foundation.postgres import create_pool

    token = await asyncio.to_thread(_owner_token, settings.calendly.api_url)
    dsn = settings.database_url.get_secret_value()
    async with (
        create_pool(dsn, settings.database, application="local") as pool,
        transport.connect(settings.calendly, SecretStr(token)) as calendly,
    ):
        manager = Subscriptions.from_settings(settings, pool, SystemClock())
        hook_id = (await manager.create(calendly, Wanted())).subscription.hook_id
        async with pool.acquire() as connection:
            record = await load_keys(connection, Vault.from_settings(settings.vault), hook_id)
        if record is None or not record.keys:
            raise SlotwireError("the demo organization's subscription has no signing key")
        url = HookAddresses.from_settings(settings).url(hook_id)
        return Subscribed(record.organization, url, record.keys[0].decode(), token)


async def tell_story(simulator_url: str) -> None:
    """Let the simulator make meetings happen until it stops."""

    def start() -> None:
        from ingest.simulator.client import SimulatorClient

        with SimulatorClient(simulator_url) as client:
            client.post("story", interval_seconds=STORY_SECONDS)

    await asyncio.to_thread(start)


def _owner_token(simulator_url: str) -> str:
    from ingest.simulator.client import SimulatorClient

    with SimulatorClient(simulator_url) as client:
        users = client.get("world")["organizations"][0]["users"]
    owner = next(user for user in users if user["role"] == "owner")
    return str(owner["tokens"][0]["token"])
