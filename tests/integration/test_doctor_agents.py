"""What the doctor says of agents: what they gave up, what waits for a person, and whose tables they can read."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import asyncpg

from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_agents, doctor_schedules
from tests.support.management_api import write_letter, write_organization, write_unknown
from tests.support.public_endpoint import settings_for

DIED = """
INSERT INTO slotwire.noted_runs (agent, topic, partition, event_id, process, state, at, seen, deaths)
VALUES ($1, 'topic', 0, gen_random_uuid(), gen_random_uuid(), 'died', $3, $2, $2)
"""


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
        for name, deaths, at in (("innocent", 1, clock.now()), ("gone", 9, clock.now() - timedelta(hours=1))):
            await owner.execute(DIED, name, deaths, at)
        assert (await doctor_agents.runs(owner, clock)).message == held.message
        await owner.execute(DIED, "lethal", doctor_agents.DEATHS_WARNING, clock.now())
        dies = await doctor_agents.runs(owner, clock)
        assert (dies.state, dies.message.rpartition(": ")[2]) == ("warning", "lethal (2 times)")
        for name in ("crm", "mailer"):
            await owner.execute(f"CREATE SCHEMA agent_{name}; GRANT USAGE ON SCHEMA agent_{name} TO slotwire_agents")
        shared = await doctor_agents.agent_tables(owner, settings)
        assert (shared.state, "agent_crm, agent_mailer" in shared.message) == ("ok", True)
    finally:
        await owner.close()


DECLARED = """
INSERT INTO slotwire.agent_schedules (agent, schedule, kind, times, away_seconds, missed, declared, begun_at, reached,
    reached_key, looked_at, next_at)
SELECT $1, schedule, kind, 'in words', CASE WHEN kind <> 'clock' THEN 0 END, 'skip', true, $2, $2, '', $2,
    CASE WHEN kind = 'clock' THEN $2::timestamptz + interval '1 hour' END
FROM (VALUES ('nightly', 'clock'), ('begun', 'after_start')) AS work (schedule, kind)
"""


async def test_scheduled_work_that_nobody_fires_is_a_warning(database: Database) -> None:
    """Where all processes have left at once, where one was killed after a while; not after a week out of service."""
    clock = ManualClock(SystemClock().now())
    owner = await asyncpg.connect(database.owner_url)

    async def found() -> tuple[str, str]:
        checked = await doctor_schedules.schedules(owner, clock)
        return checked.state, checked.message

    async def fired(at: datetime, *, left: bool = False) -> None:
        await owner.execute(
            "INSERT INTO slotwire.agent_firers (agent, owner, seen_at) VALUES ('concierge', $1, $2)"
            " ON CONFLICT (agent) DO UPDATE SET owner = $1, seen_at = $2",
            *(None if left else uuid4(), at),
        )
        await owner.execute("UPDATE slotwire.agent_schedules SET reached = $1", at)

    try:
        assert await found() == ("ok", "no agent has scheduled work, or none has run yet")
        await owner.execute(DECLARED, "concierge", clock.now())
        assert await found() == ("warning", f"1 agents have 2 works: concierge; {LEFT}")
        await fired(clock.now())
        assert await found() == ("ok", "1 agents have 2 works: concierge")
        await fired(clock.now(), left=True)
        assert await found() == ("warning", f"1 agents have 2 works: concierge; {LEFT}")
        await fired(clock.now())
        clock.advance(doctor_schedules.WARNING)
        assert await found() == ("ok", "1 agents have 2 works: concierge")
        clock.advance(timedelta(seconds=1))
        state, message = await found()
        assert (state, "; begun of concierge is due since 20" in message) == ("warning", True)
        await owner.execute("UPDATE slotwire.agent_schedules SET reached = $1", clock.now())
        state, message = await found()
        assert (state, "; nobody fires for concierge since 20" in message) == ("warning", True)
        clock.advance(timedelta(hours=1))
        await fired(clock.now())
        state, message = await found()
        assert (state, "; nightly of concierge is due since 20" in message) == ("warning", True)
        clock.advance(doctor_schedules.UNUSED)
        assert await found() == ("ok", "0 agents have 0 works: none; not run for a week: concierge")
    finally:
        await owner.close()


LEFT = "nobody fires for concierge: all its processes have stopped, or it is past its limit of dead letters"
