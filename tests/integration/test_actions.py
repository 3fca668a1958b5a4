"""Actions: each verb once for a key, and what settles it when its answer is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import generate_latest

from slotwire.ingest.control import retention
from slotwire.ingest.control.actions import perform
from slotwire.ingest.control.actions.deciding import decide
from slotwire.ingest.control.actions.records import ActionRecord
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import clock_of, show_ahead
from slotwire.ingest.foundation.exposition import EXPORTED
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings import MetricsSettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_organizations
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.model import Faults, SimulatedInvitee
from tests.support.actions_setup import MAIL, ActionsSetup, actions_setup
from tests.support.command import environment, slotwire
from tests.support.owner import owner_rows

LOST_AFTER = {"rest_lost_answer_rate": 1.0, "rest_faults": "writes"}
LOST_BEFORE = {"rest_error_rate": 1.0, "rest_faults": "writes"}


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization."""
    async with actions_setup(database) as found:
        yield found


@pytest.fixture
async def untagged(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization whose bookings carry no tag."""
    async with actions_setup(database, tag=False) as found:
        yield found


def at_simulator(setup: ActionsSetup) -> dict[str, str]:
    """Return the addresses of Calendly for a command."""
    return dict.fromkeys(("SLOTWIRE_CALENDLY__API_URL", "SLOTWIRE_CALENDLY__AUTH_URL"), setup.calendly.url)


async def by_api(setup: ActionsSetup, **details: Any) -> SimulatedInvitee:
    """Book as another program does, by API."""
    return setup.book_directly(scheduling_method="api", name="Zoe", timezone="UTC", **details)


async def test_an_answer_settles_each_verb(setup: ActionsSetup) -> None:
    """Book, mark, clear and cancel are done by their answers, with the URIs, and each tells one event."""
    booked = await setup.act(setup.booking(), key="one")
    [invitee] = setup.bookings()
    assert (booked.state, booked.evidence, booked.invitee, booked.request) == ("done", "answer", invitee.uri, None)
    assert invitee.scheduling_method == "api"
    assert dict(invitee.tracking) == {"utm_term": booked.tag}
    marked = await setup.act({"verb": "mark_no_show", "invitee": invitee.uri})
    assert (marked.state, marked.evidence) == ("done", "answer")
    cleared = await setup.act({"verb": "clear_no_show", "mark": marked.mark})
    assert (cleared.state, cleared.mark) == ("done", marked.mark)
    canceled = await setup.act({"verb": "cancel", "scheduled_event": booked.scheduled_event, "reason": "moved"})
    assert canceled.state == "done"
    assert setup.bookings() == []
    told = await setup.told()
    assert [(each["verb"], each["state"], each["settlement"]) for each in told] == [
        ("book", "done", 1),
        ("mark_no_show", "done", 1),
        ("clear_no_show", "done", 1),
        ("cancel", "done", 1),
    ]
    assert told[0]["idempotency_key"] == "one"


async def test_a_key_is_one_action_of_its_caller(setup: ActionsSetup) -> None:
    """Repeated it gives the same action, with another body it is refused, and another caller's is another action."""
    tracking = {"utm_term": "theirs", "utm_content": "theirs too"}
    first = await setup.act(setup.booking(tracking=tracking), key="one")
    again = await setup.act(setup.booking(tracking=tracking), key="one")
    assert again == first
    assert [dict(each.tracking) for each in setup.bookings()] == [tracking]  # the tag never replaces what they gave
    with pytest.raises(RequestRefused) as refused:
        await setup.act(setup.booking(email="another@example.test", tracking=tracking), key="one")
    assert refused.value.code == "idempotency_key_reused"
    later = setup.booking(start_time=setup.start(60).isoformat())
    others = await setup.act(later, key="one", caller="somebody else")
    assert (others.state, others.id == first.id) == ("done", False)
    at_once = setup.booking(start_time=setup.start(90).isoformat())
    both = await asyncio.gather(*(setup.act(at_once, key="two") for _ in range(4)))
    assert (len({each.id for each in both}), len(setup.bookings())) == (1, 3)


async def test_an_effect_is_seen_though_the_answer_is_lost(setup: ActionsSetup) -> None:
    """Of each verb, a read or Calendly's own webhook settles what the answer would have; nothing is called twice."""
    await setup.faults(**LOST_AFTER)
    booked = await setup.act(setup.booking())
    assert (booked.state, booked.evidence) == ("done", "read")
    [invitee] = setup.bookings()
    marked = await setup.act({"verb": "mark_no_show", "invitee": invitee.uri})
    assert (marked.state, marked.evidence) == ("done", "read")
    cleared = await setup.act({"verb": "clear_no_show", "mark": marked.mark})
    assert (cleared.state, cleared.evidence) == ("done", "read")
    canceled = await setup.act({"verb": "cancel", "scheduled_event": booked.scheduled_event})
    assert (canceled.state, canceled.evidence) == ("done", "read")


async def test_a_webhook_settles_what_no_read_can(database: Database) -> None:
    """Where no call comes through after the lost answer, the log settles each verb, with the webhook about it."""
    async with actions_setup(database, altered=True) as setup:

        async def told(intent: dict[str, Any]) -> ActionRecord:
            lost = await setup.lost_then_blind(intent)
            assert (lost.state, lost.reads) == ("open", 0)
            await setup.advance(seconds=10)
            [settled] = await setup.round()
            assert (settled.id, settled.state, settled.evidence) == (lost.id, "done", "webhook")
            setup.sees()
            return settled

        booked = await told(setup.booking())
        marked = await told({"verb": "mark_no_show", "invitee": booked.invitee})
        assert marked.mark is not None
        assert (await told({"verb": "clear_no_show", "mark": marked.mark})).mark == marked.mark
        await told({"verb": "cancel", "scheduled_event": booked.scheduled_event})
        assert (len(setup.bookings(active=False)), setup.bookings()) == (1, [])
        # Without a webhook and without a read it is a person's after an hour; until then nothing is called again.
        setup.calendly.engine.set_faults(Faults(drop_rate=1.0))
        blind = await setup.lost_then_blind(setup.booking())
        await setup.advance(seconds=perform.GIVE_UP.total_seconds() - 1)
        [still] = await setup.round()
        assert still.state == "open"
        await setup.advance(seconds=10)
        [given_up] = await setup.round()
        assert (given_up.id, given_up.state, given_up.reason) == (blind.id, "person", "unknown")


async def test_absence_is_never_taken_for_granted(setup: ActionsSetup) -> None:
    """Without the effect it is `not_seen` after two reads a minute apart, and only its caller's choice calls again."""
    await setup.faults(**LOST_BEFORE)
    began = setup.clock.now()
    lost = await setup.act(setup.booking(), key="one")
    assert (lost.state, lost.calls) == ("open", 1)
    unseen = await setup.until_settled(lost)
    assert unseen.state == "not_seen"
    assert unseen.settled_at is not None
    assert unseen.settled_at - began >= perform.DEADLINE + perform.READ_AGAIN
    await setup.faults()
    assert (await setup.act(setup.booking(), key="one")).state == "not_seen"
    assert setup.bookings() == []
    done = await setup.act(setup.booking(), key="one", retry_not_seen=True)
    assert (done.state, done.settlements, len(setup.bookings())) == ("done", 2, 1)
    assert [each["state"] for each in await setup.told()] == ["not_seen", "done"]
    # Where the effect came after all, the second call is not made.
    await setup.faults(**LOST_BEFORE)
    second = setup.booking(start_time=setup.start(60).isoformat())
    unseen = await setup.until_settled(await setup.act(second, key="two"))
    await setup.faults()
    late = await by_api(setup, start=setup.start(60), tracking=(("utm_term", str(unseen.tag)),))
    found = await setup.act(second, key="two", retry_not_seen=True)
    assert (found.state, found.invitee, len(setup.bookings())) == ("done", late.uri, 2)


async def test_a_booking_without_the_tag_is_only_probable(untagged: ActionsSetup) -> None:
    """One that fits is `probable`; with two a person decides; made before, or not by API, it is `done_by_other`."""
    setup = untagged
    await setup.faults(**LOST_AFTER)
    probable = await setup.act(setup.booking(email=f" {MAIL.upper()}".strip()))
    assert (probable.state, probable.evidence, probable.tag) == ("probable", "read", None)
    await setup.faults(**LOST_BEFORE)
    start = setup.start(60)
    lost = await setup.act(setup.booking(start_time=start.isoformat()))
    for _ in range(2):
        await by_api(setup, start=start)
    await setup.written()
    await setup.advance(seconds=10)
    [two] = await setup.round()
    assert (two.id, two.state, two.reason) == (lost.id, "person", "several_fit")
    decided = await decide(setup.actions.pool, setup.clock, two, "not_done", who="somebody", why="I asked them")
    assert (decided.state, decided.decided_by, decided.note) == ("not_done", "somebody", "I asked them")
    start = setup.start(90)
    lost = await setup.act(setup.booking(start_time=start.isoformat()))
    themselves = setup.book_directly(start=start)
    others = await setup.until_settled(lost)
    assert (others.state, others.invitee) == ("done_by_other", themselves.uri)
    await setup.faults()
    taken = await setup.act(setup.booking(start_time=start.isoformat()))
    assert (taken.state, taken.invitee) == ("done_by_other", themselves.uri)
    refused = await setup.act(setup.booking(start_time=start.isoformat(), email="b@example.test"))
    assert (refused.state, "no longer available" in str(refused.reason)) == ("refused", True)


async def test_a_call_that_was_not_made_is_made_again(setup: ActionsSetup) -> None:
    """Refused for its rate, or too late for its turn, it certainly had no effect: the chore calls again, once."""
    await setup.advance(seconds=120)
    setup.calendly.gate.rate_limit = 1  # the question whose token this is, and no booking
    waits = await setup.act(setup.booking())
    assert (waits.state, waits.calls) == ("not_sent", 0)
    setup.calendly.gate.rate_limit = 60_000
    await setup.advance(seconds=61)
    assert (await setup.until_settled(waits)).state == "done"
    assert len(setup.bookings()) == 1


async def test_an_effect_that_was_there_is_by_others(setup: ActionsSetup) -> None:
    """To cancel what is canceled, mark what is marked and clear what is cleared is refused, and done by others."""
    invitee = setup.book_directly()
    mark = setup.calendly.engine.mark_no_show(invitee.id).no_show
    assert mark is not None
    await setup.advance(minutes=5)
    marked = await setup.act({"verb": "mark_no_show", "invitee": invitee.uri})
    assert (marked.state, marked.mark) == ("done_by_other", mark.uri)
    setup.calendly.engine.clear_no_show(invitee.id)
    assert (await setup.act({"verb": "clear_no_show", "mark": mark.uri})).state == "done_by_other"
    event = setup.meeting(invitee.uri)
    setup.calendly.engine.cancel_event(event.id, "Host", "ill")
    assert (await setup.act({"verb": "cancel", "scheduled_event": event.uri})).state == "done_by_other"


async def test_canceling_a_group_event_says_how_many_it_concerns(setup: ActionsSetup) -> None:
    """Without `everyone` it is refused with the number of active invitees, and the key stays free."""
    group = setup.event_type(limit=10)
    first = setup.book_directly(event_type=group.rpartition("/")[2])
    event = setup.meeting(first.uri)
    for name in ("b", "c"):
        setup.book_directly(event=event.id, email=f"{name}@example.test")
    intent = {"verb": "cancel", "scheduled_event": event.uri}
    with pytest.raises(RequestRefused, match="3 active invitees") as refused:
        await setup.act(intent, key="one")
    assert refused.value.code == "cancels_everyone"
    with pytest.raises(RequestRefused, match="3 active invitees"):
        await setup.act(
            {"verb": "reschedule", "invitee": first.uri, "start_time": setup.start(90).isoformat()}, key="two"
        )
    assert (await setup.act({**intent, "everyone": True}, key="one")).state == "done"
    assert setup.bookings() == []


async def test_after_a_restore_each_action_looks_before_it_calls(setup: ActionsSetup) -> None:
    """A key that the restored database forgot finds its booking by the tag, until an operator ends that state."""
    done = await setup.act(setup.booking(), key="one")
    await setup.rows("DELETE FROM slotwire.actions")
    await setup.rows("UPDATE slotwire.actions_server SET server = 'another'")
    again = await setup.act(setup.booking(), key="one")
    assert (again.id == done.id, again.state, again.evidence, again.invitee) == (False, "done", "read", done.invitee)
    assert len(setup.bookings()) == 1
    assert (await setup.actions.performed.confirm_restore(COMMAND_LINE)).changed
    before = setup.calls
    later = await setup.act(setup.booking(start_time=setup.start(60).isoformat()))
    assert later.state == "done"
    assert setup.calls - before == 2  # whose token it is, and the booking


async def test_an_operator_sees_and_decides_by_command(setup: ActionsSetup, tmp_path: Path) -> None:
    """Book, list, show and decide as typed; the exit status says whether it is done, and one key books once."""
    shown = tmp_path / "clock"
    show_ahead(shown, setup.clock.now() - clock_of(Settings()).now())
    env = environment(setup.settings, SLOTWIRE_LOCAL__CLOCK_FILE=str(shown), **at_simulator(setup))
    start = setup.start().strftime("%Y-%m-%dT%H:%M")
    words: tuple[str, ...] = (
        "actions",
        "book",
        "--event-type",
        setup.event_type().rpartition("/")[2],
        "--start",
        start,
    )
    words += ("--email", MAIL, "--name", "Zoe", "--answer", "Company=Example", "--key", "one", "--json")
    booked = await slotwire(*words, env=env)
    assert booked.code == 0, booked.stderr
    item = json.loads(booked.stdout)
    assert (item["state"], item["caller"], item["idempotency_key"]) == ("done", "command line", "one")
    assert json.loads((await slotwire(*words, env=env)).stdout)["id"] == item["id"]
    [invitee] = setup.bookings()
    assert [each.question for each in invitee.answers] == ["Company"]
    await setup.faults(**LOST_BEFORE)
    lost = await slotwire("actions", "cancel", item["scheduled_event"], env=env)
    assert (lost.code, "open" in lost.stderr, "--key" in lost.stderr) == (1, True, True)
    await setup.rows(
        "UPDATE slotwire.actions SET state = 'person', reason = 'unknown', due_at = NULL, settled_at = now()"
        " WHERE state = 'open'"
    )
    listed = await slotwire("actions", "list", "--state", "person", "--json", env=env)
    [waiting] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert "unknown" in (await slotwire("actions", "show", waiting["id"], env=env)).stdout
    decided = await slotwire("actions", "decide", waiting["id"], "not_done", "--why", "I looked", "--json", env=env)
    assert (json.loads(decided.stdout)["state"], json.loads(decided.stdout)["note"]) == ("not_done", "I looked")
    again = await slotwire("actions", "decide", waiting["id"], "done", "--why", "I looked", env=env)
    assert (again.code, "nothing to decide" in again.stderr) == (1, True)
    told = (await slotwire("actions", "confirm-restore", env=env)).stdout
    assert "already" in told


async def test_what_waits_is_watched_and_what_is_over_goes(setup: ActionsSetup) -> None:
    """The doctor names who waits, the metrics count them; after 30 days the others go, and their moves with them."""
    done = await setup.act(setup.booking())
    [invitee] = setup.bookings()
    start = setup.start(60).isoformat()
    moved = await setup.act({"verb": "reschedule", "invitee": invitee.uri, "start_time": start})
    await setup.faults(**LOST_BEFORE)
    lost = await setup.act(setup.booking(start_time=setup.start(90).isoformat()))
    await setup.written()
    pool = setup.actions.pool
    async with pool.acquire() as connection:
        assert (await doctor_organizations.actions(connection, setup.clock)).state == "ok"
        setup.calendly.engine.advance(timedelta(minutes=16))
        late = await doctor_organizations.actions(connection, setup.clock)
        assert (late.state, str(lost.id) in late.message) == ("warning", True)
        assert await Observer(pool, setup.clock, MetricsSettings()).run_once()
        shown = generate_latest(EXPORTED["control"]).decode()
        assert 'slotwire_actions_waiting{state="open"} 1.0' in shown
        await setup.rows(
            "UPDATE slotwire.actions SET state = 'person', reason = 'unknown', due_at = NULL,"
            " settled_at = intended_at WHERE state = 'open'"
        )
        keep = RetentionSettings(actions_days=30)
        setup.calendly.engine.advance(timedelta(days=29))
        assert await retention.run_once(pool, setup.clock, keep) == {"actions": 0}
        setup.calendly.engine.advance(timedelta(days=2))
        assert await retention.run_once(pool, setup.clock, keep) == {
            "actions": 3
        }  # and what the writer knew of the move
    rows = await setup.rows("SELECT id FROM slotwire.actions")
    assert [row["id"] for row in rows] == [lost.id]
    assert (done.id, moved.id) != (lost.id, lost.id)
    assert await setup.rows("SELECT * FROM slotwire.moves") == []


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'open'", "actions_"),
        ("request = '{}'", "actions_over"),
        ("evidence = NULL", "actions_proof"),
        ("state = 'refused', evidence = NULL", "actions_why"),
        ("verb = 'gone'", "actions_verb"),
        ("note = 'x'", "actions_decided"),
        ("due_at = intended_at", "actions_due"),
    ],
)
async def test_no_row_is_in_two_states(database: Database, change: str, constraint: str) -> None:
    """The CHECKs hold the drawing of the states together, whoever writes."""
    org = "https://api.calendly.com/organizations/ORGANIZATION"
    await owner_rows(
        database, "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ('O', $1, 0, now())", org
    )
    await owner_rows(
        database,
        "INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target, state,"
        " evidence, step, step_at, called_at, head, intended_at, settled_at) VALUES (gen_random_uuid(), 'O', 'c', 'k',"
        " '', 'book', gen_random_uuid(), 'u', 't', 'done', 'answer', 'book', now(), now(), 0, now(), now())",
    )
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await owner_rows(database, f"UPDATE slotwire.actions SET {change}")
