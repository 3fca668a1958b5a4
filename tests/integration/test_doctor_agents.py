"""What the doctor says of agents: what they gave up, what waits for a person, and whose tables they can read."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_agents
from tests.support.management_api import write_letter, write_organization, write_unknown
from tests.support.public_endpoint import settings_for


async def test_what_waits_for_somebody_is_a_warning(database: Database) -> None:
    """A dead letter after a day, a run of unknown outcome at once; each names its agent."""
    await write_organization(database, "ORG")
    settings, clock = settings_for(database), ManualClock(SystemClock().now() + timedelta(minutes=1))
    owner = await asyncpg.connect(database.owner_url)
    try:
        for check in (
            doctor_agents.dead_letters(owner, clock),
            doctor_agents.runs(owner, clock),
            doctor_agents.agent_tables(owner, settings),
        ):
            assert (await check).state == "ok"
        await write_letter(database, "ORG", 1)
        fresh = await doctor_agents.dead_letters(owner, clock)
        assert (fresh.state, "1 of crm" in fresh.message) == ("ok", True)
        clock.advance(doctor_agents.LETTERS_WARNING)
        late = await doctor_agents.dead_letters(owner, clock)
        assert (late.state, late.message.endswith("for more than a day: crm")) == ("warning", True)
        await write_unknown(database, "ORG", 2, agent="payer")
        held = await doctor_agents.runs(owner, clock)
        assert (held.state, held.message) == ("warning", "1 unknown of payer")
        for name in ("crm", "mailer"):
            await owner.execute(f"CREATE SCHEMA agent_{name}; GRANT USAGE ON SCHEMA agent_{name} TO slotwire_agents")
        shared = await doctor_agents.agent_tables(owner, settings)
        assert (shared.state, "agent_crm, agent_mailer" in shared.message) == ("ok", True)
    finally:
        await owner.close()
