"""A long and uneven history, made in the server: what lists must be quick over.

One organization has most of it, one fell silent after its first day, and one type and one outcome
happened on that day only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import asyncpg

from slotwire.ingest.operate.audit_models import AuditQuery
from slotwire.ingest.operate.booking_models import BookingQuery, State
from slotwire.ingest.operate.models import DeliveryQuery, EventQuery, Outcome, PageQuery
from slotwire.ingest.operate.quarantine_models import QuarantineQuery

BUSY, SILENT, UNKNOWN = "busy", "silent", "unknown"
COMMON, RARE = "com.calendly.invitee.created.v1", "com.calendly.contact.deleted.v1"
SILENT_EVENTS = 20
"""Of the silent organization, the rare type, the rare outcome and state: all are of the same events, the first."""
ORIGIN = "https://api.calendly.com"


@dataclass(frozen=True, slots=True)
class History:
    """How much of it.

    Attributes:
        events: rows of the log; as many deliveries, each with its result, and half as many bookings.
        organizations: that they belong to.
        days: over which they are spread evenly; each has a partition of its own.
        changes: rows of the audit, and of the quarantine.
    """

    events: int
    organizations: int
    days: int
    changes: int


_ORG = f"""CASE WHEN n <= {SILENT_EVENTS} THEN '{SILENT}' WHEN n % 5 < 3 THEN '{BUSY}'
           ELSE 'org-' || n % ($4::bigint - 2) END"""
_AT = "$2::timestamptz + make_interval(secs => 86400.0 * $3::int * n / $1::bigint)"
_PLACE = "(n * $3::int / ($1::bigint + 1)) * 1000000000 + n"
_ID = "('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_INVITEE = f"'{ORIGIN}/scheduled_events/' || n / 2 || '/invitees/' || n / 2"
_STATEMENTS = (
    f"""INSERT INTO slotwire.organizations (org, uri, shard, created_at)
    SELECT org, '{ORIGIN}/organizations/' || org, 0, $2::timestamptz
    FROM (SELECT DISTINCT {_ORG} AS org FROM generate_series(1, $1::bigint) AS n) AS o
    WHERE $3::int > 0""",
    f"""INSERT INTO slotwire.deliveries (shard, position, total, id, org, subscription_id, origin, received_at,
                                         signed_at, stale, content_encoding, body)
    SELECT 0, {_PLACE}, n * 300, {_ID}, {_ORG}, {_ID}, 'webhook', {_AT}, {_AT}, false, '', '\\x7b7d'
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.results (shard, position, org, outcome, event_id, event_name, subject, settled_at)
    SELECT 0, {_PLACE}, {_ORG}, CASE WHEN n <= {SILENT_EVENTS} THEN 'quarantined' WHEN n % 50 = 0 THEN 'duplicate'
           ELSE 'stored' END, {_ID}, 'invitee.created', {_INVITEE}, {_AT}
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id,
                                     origin, inferred, data)
    SELECT 0, {_PLACE}, {_ID}, CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE}' WHEN n % 3 = 0
           THEN 'com.calendly.invitee.canceled.v1' ELSE '{COMMON}' END, {_ORG}, {_INVITEE}, 'key', {_AT}, {_AT}, {_ID},
           'webhook', false, '\\x7b7d'
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.identities (event_id, shard, position)
    SELECT {_ID}, 0, {_PLACE} FROM generate_series(1, $1::bigint) AS n
    WHERE $2::timestamptz IS NOT NULL AND $4::bigint > 0""",
    f"""INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees, new_invitees,
                                       marks, clears, hosts, waits_since, changed_at)
    SELECT {_INVITEE}, {_ORG}, 1, CASE WHEN n <= {SILENT_EVENTS} THEN 'canceled' ELSE 'active' END, 'key', {_INVITEE},
           '{{}}', '{{}}', '[]', '[]', '{{}}', CASE WHEN n % 100 = 0 OR n <= {SILENT_EVENTS} THEN {_AT} END, {_AT}
    FROM generate_series(2, $1::bigint, 2) AS n""",
    f"""INSERT INTO slotwire.quarantine (delivery_id, shard, position, org, origin, received_at, signed_at,
                                         content_encoding, body, reason, detail, created_at, state, settled_at)
    SELECT {_ID}, 0, 0, {_ORG}, 'webhook', {_AT}, {_AT}, '', '\\x7b7d',
           CASE WHEN n <= {SILENT_EVENTS} THEN 'not_json' ELSE 'unknown_event' END, '', {_AT},
           CASE WHEN n <= {SILENT_EVENTS} THEN 'waiting' ELSE 'retried' END,
           CASE WHEN n > {SILENT_EVENTS} THEN {_AT} END
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.audit (id, at, actor, role, org, action, target, result)
    SELECT {_ID}, {_AT}, CASE WHEN n <= {SILENT_EVENTS} THEN 'control' ELSE 'command line' END, 'admin', {_ORG},
           CASE WHEN n <= {SILENT_EVENTS} THEN 'keys.revoke' ELSE 'quarantine.retry' END, {_ID}::text, 'done'
    FROM generate_series(1, $1::bigint) AS n""",
)
_OF_CHANGES = 2
"""The last statements go by `changes`."""


async def write_history(owner_url: str, history: History) -> None:
    """Fill an empty database that is migrated."""
    began = datetime.now(UTC) - timedelta(days=history.days)
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("UPDATE slotwire.log SET created_at = $1", began)
        for day in range(0, history.days + 1, 8):
            await owner.execute("SELECT slotwire.make_ranges($1, 7)", began + timedelta(days=day))
        for number, statement in enumerate(_STATEMENTS):
            of_changes = number >= len(_STATEMENTS) - _OF_CHANGES
            rows = history.changes if of_changes else history.events
            await owner.execute(statement, rows, began, history.days, history.organizations)
        end = (history.events * history.days // (history.events + 1)) * 1_000_000_000 + history.events
        await owner.execute(
            "INSERT INTO slotwire.heads SELECT shard, version + 1, epoch, $1, $2, $1, server, attempts, attempts_at,"
            " trying, tries, at FROM slotwire.heads",
            end,
            history.events * 300,
        )
        await owner.execute("SELECT setval('slotwire.positions', $1), setval('slotwire.accepted_0', $1)", end)
        await owner.execute("VACUUM ANALYZE")
    finally:
        await owner.close()


def list_queries() -> Iterator[tuple[str, PageQuery]]:
    """Yield every list with every mixture of its filters: common values, rare ones, those of the silent, unknown ones.

    A list is named as its operations and its path are.
    """
    organizations = (None, BUSY, SILENT, UNKNOWN)
    for org, type_ in product(organizations, (None, COMMON, RARE, UNKNOWN)):
        yield "events", EventQuery(organization=org, type=type_)
        yield "events", EventQuery(organization=org, type=type_, subject=f"{ORIGIN}/{UNKNOWN}")
    for org, outcome in product(organizations, (None, *get_args(Outcome))):
        yield "deliveries", DeliveryQuery(organization=org, outcome=outcome)
    for org, state, waiting in product(organizations, (None, *get_args(State)), (False, True)):
        yield "bookings", BookingQuery(organization=org, state=state, waiting=waiting)
    states = ("all", "waiting", "retried", "discarded")
    for org, reason, kept in product(organizations, (None, "not_json", "unknown_event", UNKNOWN), states):
        yield "quarantine", QuarantineQuery(organization=org, reason=reason, state=kept)
    for org, action, actor in product(organizations, (None, "keys.revoke", UNKNOWN), (None, "control", UNKNOWN)):
        yield "audit", AuditQuery(organization=org, action=action, actor=actor)
