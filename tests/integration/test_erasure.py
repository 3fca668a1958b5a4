"""Erasing a person: nothing in the database tells of them afterwards, whatever comes in later, and agents are told."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

from slotwire.handlers.long_work.journal import ClaimRequest, Entry, RunClaim, pack
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.settle.agent_queue import PostgresQueue
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.letters import KeptLetters
from slotwire.handlers.testing import event_of, record_of
from slotwire.ingest.control import erasure
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.postgres import Connection, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings, MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.erased import without_person
from slotwire.ingest.operate import doctor_organizations
from slotwire.ingest.operate.roles import Role
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCanceled, InviteeCreated, InviteeErased
from tests.support.command import environment, slotwire
from tests.support.door import add_organization, let_in
from tests.support.management_api import NoTopic, management_api
from tests.support.owner import owner_connection
from tests.support.public_endpoint import invitee_body, new_invitee, settings_for
from tests.support.writing import until_written, writing

ADDRESS = "Jane.Quixote+cal@Example.org"
NAME, ANSWER, PHONE, LINK = "Janequixote", "peanutallergy", "+155501991234", "cancellations/secretlink"
NEEDLES = (ADDRESS.lower(), NAME.lower(), ANSWER, PHONE, LINK)
GUEST = "guest.of.bob@example.com"
SUBMISSION = "https://api.calendly.com/routing_form_submissions/SUBMITTED"
TOLD = {
    *("events", "deliveries", "quarantine", "runs", "run_entries", "approvals", "dead_letters", "agent_queue"),
    *("agent_state", "actions", "upcoming_meetings"),
}
"""Tables that tell of Jane before."""
ENDED = {
    "quarantined": 1,
    "runs": 2,
    "waits": 2,
    "approvals": 2,
    "dead_letters": 1,
    "queued": 1,
    "states": 1,
    "actions": 1,
    "meetings": 1,
}
_TABLES = """
SELECT t.table_name AS name, EXISTS (SELECT FROM information_schema.columns c WHERE c.table_schema = 'slotwire'
                                     AND c.table_name = t.table_name AND c.column_name = 'org') AS bound
FROM information_schema.tables t WHERE t.table_schema = 'slotwire' AND t.table_type = 'BASE TABLE'
"""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")


async def told_of(owner: Connection, needles: tuple[str, ...] = NEEDLES, *, but: str = "B") -> set[tuple[str, str]]:
    """Return which columns of any table, partitions too, have one of some texts; rows of one organization left out.

    Octets are looked through as they are, and so is what is base64 in them.
    """
    found = set()
    for each in await owner.fetch(_TABLES):
        where = "t.org IS DISTINCT FROM $1" if each["bound"] else "$1::text IS NOT NULL"
        for row in await owner.fetch(f"SELECT t.* FROM slotwire.{each['name']} t WHERE {where}", but):
            for name, value in row.items():
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                inside = (b64decode(part + "=" * (-len(part) % 4)).decode("latin-1") for part in _BASE64.findall(text))
                whole = "\n".join((text, *inside)).lower()
                if any(needle in whole for needle in needles):
                    found.add((each["name"], name))
    return found


def meeting_of(uri: str) -> str:
    """Return the scheduled event of an invitee."""
    return uri.rpartition("/invitees/")[0]


def jane(uri: str, event: str = "invitee.created", **more: Any) -> bytes:
    """Tell of Jane, with everything that a booking form can ask."""
    meeting = meeting_of(uri)
    person: dict[str, Any] = {
        "email": ADDRESS,
        "name": f"{NAME} Doe",
        "first_name": NAME,
        "questions_and_answers": [{"question": "Food?", "answer": ANSWER, "position": 0}],
        "text_reminder_number": PHONE,
        "tracking": {"utm_source": NAME},
        "cancel_url": f"https://calendly.com/{LINK}",
        "routing_form_submission": SUBMISSION,
        "unknown_field": {"of": NAME},
        "scheduled_event": {
            "uri": meeting,
            "name": f"{NAME} and Bob",
            "start_time": "2026-12-01T10:00:00.000000Z",
            "end_time": "2026-12-01T10:30:00.000000Z",
            "location": {"type": "outbound_call", "location": PHONE},
            "event_memberships": [{"user": "https://api.calendly.com/users/HOST", "user_email": "host@example.com"}],
            "event_guests": [{"email": "guest@example.com"}],
            "cancellation": {"canceled_by": NAME, "reason": ANSWER, "canceler_type": "invitee"},
        },
    }
    return invitee_body(event, invitee=uri, **{**person, **more})


def with_guests(uri: str, *addresses: str, event: str = "invitee.created", **more: Any) -> bytes:
    """Tell of somebody else, who has brought guests."""
    guests = [{"email": each, **more} for each in addresses]
    return invitee_body(event, invitee=uri, scheduled_event={"uri": meeting_of(uri), "event_guests": guests})


def told(event: str, uri: str, **payload: Any) -> bytes:
    """Tell of a resource."""
    return orjson.dumps({"event": event, "created_at": "2026-11-23T09:00:00Z", "payload": {"uri": uri, **payload}})


async def event_in_log(owner: Connection, subject: str) -> Event[InviteeCreated]:
    """Read the event with which an invitee was booked."""
    [row] = await owner.fetch(
        "SELECT * FROM slotwire.events WHERE subject = $1 AND type = $2", subject, InviteeCreated.type
    )
    data = InviteeCreated.model_validate_json(row["data"])
    return event_of(data, key=row["key"], event_id=row["event_id"], sequence=row["position"], organization=row["org"])


async def leave_work(database: Database, event: Event[InviteeCreated], offset: int, result: object) -> None:
    """Have an agent have set a run aside whose step returned something, that waits and has asked Jane."""
    record, clock = record_of(event, offset=offset), SystemClock()
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        journal = PostgresJournal(pool, agent="crm", clock=clock, claim_seconds=5)
        claim = await journal.claim(ClaimRequest(record, event, "1"))
        assert isinstance(claim, RunClaim)
        due = clock.now() + timedelta(days=1)
        assert await journal.start_step(event.id, claim.epoch, 0, "look up")
        step = Entry(0, "look up", "step", "started")
        assert await journal.end_entry(event.id, claim.epoch, step, orjson.dumps(result))
        wait = Entry(1, "the end", "wait", "open", None, (InviteeCanceled.type,), due)
        assert await journal.open_wait(event.id, claim.epoch, wait, pack(record, event))
        await pool.execute(
            "INSERT INTO slotwire.approvals (id, agent, event_id, name, org, person, what, digest, asked_at,"
            " expires_at) VALUES ($1, 'crm', $2, 'refund', 'A', $3, $4, sha256(convert_to($4, 'UTF8')), $5, $6)",
            *(uuid4(), event.id, ADDRESS, json.dumps({"food": ANSWER}), clock.now(), due),
        )


async def leave_traces(database: Database, owner: Connection, mine: Event[Any], others: Event[Any]) -> None:
    """Have agents and operators have everything of Jane that they can have, and some of Bob with her address in it."""
    await leave_work(database, mine, 1, {"who": NAME})
    await leave_work(database, others, 2, {"copied to": ADDRESS})
    clock = SystemClock()
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        letters = KeptLetters(pool, NoTopic(), agent="crm", clock=clock)
        queue = PostgresQueue(pool, agent="other", clock=clock, settings=AgentsSettings())
        for each in (mine, others):
            record = record_of(each, offset=each.sequence)
            await letters.put(record, GiveUpReason(f"no room for {ADDRESS}", attempts=1, trace=ADDRESS))
            assert await queue.put(record, attempts=1, due_at=clock.now() + timedelta(days=1))
    now = clock.now()
    await owner.executemany(
        "INSERT INTO slotwire.agent_starts (agent, topic, partition, start_offset, decided_at)"
        " VALUES ($1, 'calendly.invitee', 0, 0, $2)",
        [("crm", now), ("other", now)],
    )
    await owner.executemany(
        "INSERT INTO slotwire.agent_state (agent, org, key, value, changed_at) VALUES ('crm', 'A', $1, $2, $3)",
        [(mine.key, json.dumps({"name": NAME}), now), (others.key, json.dumps({"visits": 3}), now)],
    )
    await owner.execute(
        "INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target,"
        " request, state, reason, step, step_at, called_at, head, intended_at, settled_at, facts)"
        " VALUES ($1, 'A', 'somebody', 'one', '', 'cancel', $1, 'https://api.calendly.com/users/HOST', $2, $3,"
        " 'person', 'several_fit', 'cancel', $4, $4, 0, $4, $4, $3)",
        *(uuid4(), mine.subject, json.dumps({"why": ANSWER}), now),
    )
    await owner.execute(
        "INSERT INTO slotwire.upcoming_meetings (org, scheduled_event, start_time, told) VALUES ('A', $1, $2, $3)",
        *(meeting_of(mine.subject), now, json.dumps({"name": f"{NAME} and Bob"})),
    )


async def erase(owner: Connection, database: Database) -> Mapping[str, Any]:
    """Erase Jane, as an operator of her organization does."""
    async with management_api(settings_for(database)) as api:
        key = await api.key(Role.OPERATOR, "A")
        answer = await api.ask("POST", "/v1/erasures", key, json={"email": f" {ADDRESS.upper()}".strip()})
        assert answer.status_code == 201, answer.text
        item: Mapping[str, Any] = answer.json()
        shown = await api.ask("GET", f"/v1/erasures/{item['id']}", key)
        assert shown.json() == item
        audited = await owner.fetch("SELECT target, result FROM slotwire.audit WHERE action = 'erasures.create'")
        assert {(row["target"], row["result"]) for row in audited} >= {(item["id"], "done")}
    return item


async def tell_of(owner: Connection, *, first: str, second: str, waits: str, bobs: str) -> None:
    """Tell of everything that Jane has in two organizations, and of a booking of Bob's with her as a guest."""
    await add_organization(owner, "A")
    await add_organization(owner, "B")
    await let_in(
        owner,
        jane(first, new_invitee=second, rescheduled=True),
        jane(second, old_invitee=first),
        jane(waits, "invitee_no_show.deleted"),
        with_guests(bobs, ADDRESS),
        told("contact.created", "https://api.calendly.com/contacts/C", email=ADDRESS, name=NAME),
        told("routing_form_submission.created", SUBMISSION, questions_and_answers=[{"answer": ANSWER}]),
        told("unknown.thing", "https://api.calendly.com/things/T", email=ADDRESS, name=NAME),
    )
    await let_in(owner, jane(new_invitee()), org="B")


async def tell_late(owner: Connection, *, first: str, waits: str, late: str, bobs: str) -> None:
    """Tell later copies: with and without the address, as a webhook and as REST does, of invitees known and unknown.

    One is of a booking of Bob's, with her as a guest beside another.
    """
    document = orjson.loads(jane(late))["payload"]
    fetched = orjson.dumps({"invitee": document, "scheduled_event": document.pop("scheduled_event")})
    mark = {"uri": "https://api.calendly.com/invitee_no_shows/1", "created_at": "2026-11-23T08:59:59Z"}
    await let_in(
        owner,
        jane(first, "invitee.canceled", status="canceled", email=None),
        jane(waits, "invitee_no_show.created", no_show=mark),
        told("contact.updated", "https://api.calendly.com/contacts/C", email="new@example.org", name=NAME),
        with_guests(bobs, ADDRESS, GUEST, event="invitee.canceled"),
    )
    await let_in(owner, fetched, origin="reconcile")
    await let_in(owner, jane(late, "invitee.canceled", status="canceled", email=None))


async def look_at_work(owner: Connection, mine: Event[Any], others: Event[Any]) -> None:
    """Jane's work is over for every agent; Bob's waits as before, and can be read."""
    left = await owner.fetch("SELECT event_id, state, value FROM slotwire.dead_letters ORDER BY state DESC")
    assert [(row["event_id"], row["state"]) for row in left] == [(others.id, "open"), (mine.id, "discarded")]
    InviteeCreated.model_validate_json(left[0]["value"])
    assert await owner.fetchval("SELECT array_agg(event_id) FROM slotwire.agent_queue") == [others.id]
    assert await owner.fetchval("SELECT state FROM slotwire.actions") == "not_done"
    marked = await owner.fetch("SELECT agent FROM slotwire.inbox WHERE event_id = $1 ORDER BY agent", mine.id)
    assert [row["agent"] for row in marked] == ["crm", "other"]


async def test_nothing_tells_of_a_person_who_was_erased(database: Database) -> None:
    """No column of any table has the address, the name, an answer, a number or a link, and late copies bring none back.

    What ended is counted. Rows about others lose the address only, another organization keeps its own, and a booking
    that is made later is stored.
    """
    first, second, bobs, waits, late, new, guests_of = (new_invitee() for _ in range(7))
    settings = settings_for(database)
    async with owner_connection(database) as owner, writing(settings):
        await tell_of(owner, first=first, second=second, waits=waits, bobs=bobs)
        await until_written(database.owner_url)
        mine, others = await event_in_log(owner, first), await event_in_log(owner, bobs)
        await leave_traces(database, owner, mine, others)
        assert {name for name, _ in await told_of(owner)} >= TOLD

        item = await erase(owner, database)
        await until_written(database.owner_url)
        assert await told_of(owner) == set()
        assert (item["state"], {name: item["report"][name] for name in ENDED}) == ("done", ENDED)
        assert await told_of(owner, (NAME.lower(),), but="A") >= {("events", "data"), ("deliveries", "body")}
        await look_at_work(owner, mine, others)
        erased = await owner.fetch("SELECT subject, key FROM slotwire.events WHERE type = $1", InviteeErased.type)
        rows = await owner.fetch("SELECT invitee, chain_key FROM slotwire.bookings WHERE org = 'A'")
        keys = {row["invitee"]: row["chain_key"] for row in rows}
        assert {(row["subject"], row["key"]) for row in erased} == {(uri, keys[uri]) for uri in (first, second, waits)}
        kept = await event_in_log(owner, first)
        assert (kept.data.uri, kept.data.booking.state, kept.data.email) == (first, "active", None)

        await tell_late(owner, first=first, waits=waits, late=late, bobs=bobs)
        await until_written(database.owner_url)
        assert await told_of(owner) == set()
        state = "SELECT state FROM slotwire.bookings WHERE invitee = $1"
        assert [await owner.fetchval(state, uri) for uri in (first, late)] == ["canceled", "canceled"]
        toggles = "SELECT count(*) FROM slotwire.events WHERE subject = $1 AND type LIKE '%no_show%'"
        assert await owner.fetchval(toggles, waits) == 2

        guests = "SELECT data FROM slotwire.events WHERE subject = $1 AND type = $2"
        canceled = InviteeCanceled.model_validate_json(await owner.fetchval(guests, bobs, InviteeCanceled.type))
        assert canceled.scheduled_event is not None
        assert [each.email for each in canceled.scheduled_event.event_guests] == ["erased", GUEST]
        bodies = "SELECT count(*) FROM slotwire.deliveries WHERE position(convert_to($1, 'UTF8') IN body) > 0"
        assert (canceled.email, await owner.fetchval(bodies, GUEST)) == ("ada@example.com", 1)

        later = {"created_at": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()}
        await let_in(owner, jane(new, **later), with_guests(guests_of, ADDRESS, **later))
        await until_written(database.owner_url)
        for uri in (new, guests_of):
            assert ADDRESS in (await event_in_log(owner, uri)).data.model_dump_json()


async def observed(control: Observer) -> list[float | None]:
    """Return what `control` shows of open erasures: how many, and when the oldest was asked for."""
    assert await control.run_once()
    names = ("erasures_open", "erasure_oldest_timestamp_seconds")
    return [REGISTRY.get_sample_value(f"slotwire_{name}") for name in names]


async def test_an_erasure_is_repeated_and_ends_what_was_at_work(database: Database) -> None:
    """Without a relay it stays open, and says so; the same command goes on with it.

    What an agent that was at work wrote after the end is ended by the next round. Invitees are erased without an
    address, too.
    """
    invitee = new_invitee()
    settings = settings_for(database)
    env, dsn = environment(settings), database.url_of["control"]
    async with (
        owner_connection(database) as owner,
        create_pool(dsn, DatabaseSettings(pool_size=1), application="test") as pool,
    ):
        control = Observer(pool, SystemClock(), MetricsSettings())
        await add_organization(owner, "A")
        await let_in(owner, jane(invitee))
        refused = await slotwire("erase", "A", env=env)
        assert (refused.code, "e-mail address or an invitee" in refused.stderr) == (1, True)
        opened = await slotwire("erase", "A", "--email", "-", "--json", env=env, stdin=f"{ADDRESS}\n")
        assert (opened.code, json.loads(opened.stdout)["waits_for"]) == (1, "writer")
        assert ADDRESS not in opened.stdout + opened.stderr
        later = ManualClock(datetime.now(UTC) + doctor_organizations.ERASURES_WARNING)
        said = [await doctor_organizations.erasures(owner, clock) for clock in (SystemClock(), later)]
        assert [each.state for each in said] == ["ok", "warning"]
        asked_at = datetime.fromisoformat(json.loads(opened.stdout)["asked_at"])
        assert await observed(control) == [1, asked_at.timestamp()]
        async with writing(settings):
            await until_written(database.owner_url)
            ended = await slotwire("erase", "A", "--email", ADDRESS, "--json", env=env)
            await until_written(database.owner_url)
            item = json.loads(ended.stdout)
            assert (ended.code, item["state"], item["id"]) == (0, "done", json.loads(opened.stdout)["id"])
            assert await told_of(owner) == set()
            mine = await event_in_log(owner, invitee)
            await leave_work(database, mine, 1, {"who": NAME})
            assert await erasure.run_once(pool, SystemClock()) == 1
            assert await told_of(owner) == set()
            assert await observed(control) == [0, None]

            other = new_invitee()
            await let_in(owner, jane(other, created_at=(datetime.now(UTC) + timedelta(minutes=1)).isoformat()))
            await until_written(database.owner_url)
            named = await slotwire("erase", "A", "--invitee", other, env=env)
            assert (named.code, "events: 1" in named.stdout) == (0, True)
            assert await told_of(owner) == set()
        listed = await slotwire("erase", "--list", "--json", env=env)
        assert [json.loads(line)["state"] for line in listed.stdout.splitlines()] == ["done", "done"]
        UUID(item["id"])


async def test_an_erasure_that_has_to_wait_holds_up_no_other(database: Database) -> None:
    """What is written after an end is ended erasure by erasure: a lock that is held costs one of them a round."""
    now, limits = datetime.now(UTC), DatabaseSettings(pool_size=1, lock_timeout_seconds=0.1)
    async with owner_connection(database) as owner, owner_connection(database) as other:
        for org in ("A", "C"):
            subject, erased = new_invitee(), uuid4()
            await add_organization(owner, org)
            await owner.execute(
                "INSERT INTO slotwire.erasures (id, org, state, asked_at, asked_by, done_at)"
                " VALUES ($1, $2, 'done', $3, 'a test', $3)",
                *(erased, org, now),
            )
            await owner.execute("INSERT INTO slotwire.erased_subjects VALUES ($1, $2, $3)", subject, org, erased)
            await owner.execute(
                "INSERT INTO slotwire.agent_state VALUES ('late', $1, 'chain', $2, $3)", org, f'"{subject}"', now
            )
        async with create_pool(database.url_of["control"], limits, application="test") as pool:
            async with other.transaction():
                await other.execute("SELECT FROM slotwire.agent_state WHERE org = 'A' FOR UPDATE")
                assert await erasure.run_once(pool, SystemClock()) == 1
            assert [row["org"] for row in await owner.fetch("SELECT org FROM slotwire.agent_state")] == ["A"]
            assert await erasure.run_once(pool, SystemClock()) == 2
        assert await owner.fetchval("SELECT count(*) FROM slotwire.agent_state") == 0


async def test_the_writer_leaves_what_the_database_leaves(database: Database) -> None:
    """A payload with every field loses the same in Python, where late copies lose it, as in SQL."""
    document = orjson.loads(jane(new_invitee(), "invitee.canceled", no_show={"uri": "https://api.calendly.com/n/1"}))[
        "payload"
    ]
    document["cancellation"] = {"canceled_by": NAME, "canceler_type": "invitee", "created_at": "2026-11-23T09:00:00Z"}
    payload = InviteePayload.model_validate(document)
    whole = payload.model_dump_json()
    async with owner_connection(database) as owner:
        left = json.loads(await owner.fetchval("SELECT slotwire.without_person($1::json)", whole))
    assert InviteePayload.model_validate(left) == without_person(payload)
