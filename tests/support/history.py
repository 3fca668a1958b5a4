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
from uuid import UUID

import asyncpg

from slotwire.ingest.operate.action_models import ActionQuery
from slotwire.ingest.operate.approval_models import ApprovalQuery
from slotwire.ingest.operate.audit_models import AuditQuery
from slotwire.ingest.operate.booking_models import BookingQuery, State
from slotwire.ingest.operate.dead_letter_models import DeadLetterQuery
from slotwire.ingest.operate.mcp_subscription_models import McpSubscriptionQuery
from slotwire.ingest.operate.models import DeliveryQuery, EventQuery, Outcome, PageQuery
from slotwire.ingest.operate.quarantine_models import QuarantineQuery
from slotwire.ingest.operate.run_models import RunQuery
from slotwire.ingest.operate.uses_models import UsesQuery

BUSY, SILENT, UNKNOWN = "busy", "silent", "unknown"
ORGANIZATIONS = (None, BUSY, SILENT, UNKNOWN)
COMMON_AGENT, RARE_AGENT, RARE_CALL = "crm", "digest", "post-invitee"
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
        others: rows of each other list: uses, runs, approvals, actions, dead letters, subscriptions of MCP.
    """

    events: int
    organizations: int
    days: int
    changes: int
    others: int = 0


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
_OTHERS = (
    f"""INSERT INTO slotwire.uses (id, at, user_uri, org, action, target, actor, agent, event, result)
    SELECT {_ID}, {_AT}, 'user-' || n % 3, {_ORG},
           CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE_CALL}' ELSE 'get-event' END, {_INVITEE},
           CASE WHEN n <= {SILENT_EVENTS} THEN 'command line' ELSE 'control' END,
           CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE_AGENT}' WHEN n % 2 = 0 THEN '{COMMON_AGENT}' END,
           CASE WHEN n % 2 = 0 THEN {_ID} END, 'done'
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.runs (agent, event_id, id, org, key, subject, type, version, state, owner, epoch, until,
        topic, partition, position, place, record, began_at, changed_at)
    SELECT CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE_AGENT}' ELSE '{COMMON_AGENT}' END, {_ID}, {_ID}, {_ORG},
           'key-' || n, {_INVITEE}, '{COMMON}', '1',
           CASE WHEN n <= {SILENT_EVENTS} THEN 'unknown' ELSE 'waiting' END, {_ID}, 1, {_AT}, 'topic', 0, n, n,
           '\\x7b7d', {_AT}, {_AT}
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.approvals (id, agent, event_id, name, org, person, what, digest, state, asked_at,
        expires_at, decided_at, decided_by)
    SELECT {_ID}, CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE_AGENT}' ELSE '{COMMON_AGENT}' END, {_ID}, 'go',
           {_ORG}, 'Sam', '{{}}', sha256('{{}}'),
           CASE WHEN n <= {SILENT_EVENTS} THEN 'open' ELSE 'approved' END, {_AT}, {_AT}, {_AT},
           CASE WHEN n > {SILENT_EVENTS} THEN 'Sam' END
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target, state,
        evidence, reason, step, step_at, called_at, head, mark, intended_at, settled_at)
    SELECT {_ID}, {_ORG}, 'caller', 'key-' || n, '\\x00', 'mark_no_show', {_ID}, 'user', {_INVITEE} || n,
           CASE WHEN n <= {SILENT_EVENTS} THEN 'refused' ELSE 'done' END,
           CASE WHEN n > {SILENT_EVENTS} THEN 'answer' END, CASE WHEN n <= {SILENT_EVENTS} THEN 'plan' END,
           'mark', {_AT}, {_AT}, 0, 'mark-' || n, {_AT}, {_AT}
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.dead_letters (id, agent, topic, partition, record_offset, lane, org, event_id,
        header_names, header_values, published_at, at, reason, attempts, trace, state, changed_at)
    SELECT {_ID}, CASE WHEN n <= {SILENT_EVENTS} THEN '{RARE_AGENT}' ELSE '{COMMON_AGENT}' END, 'topic', 0, n,
           '\\x00', {_ORG}, {_ID}, '{{}}', '{{}}', {_AT}, {_AT}, 'defect', 1, '',
           CASE WHEN n <= {SILENT_EVENTS} THEN 'open' ELSE 'settled' END, {_AT}
    FROM generate_series(1, $1::bigint) AS n""",
    f"""INSERT INTO slotwire.mcp_subscriptions (id, slot, agent, user_uri, org, shard, name, arguments, url, profile,
        secret, position, last_error, version, created_at, changed_at, expires_at)
    SELECT replace({_ID}::text, '-', ''), 0, ('00000000-0000-7000-8000-00000000000' || (n <=
           {SILENT_EVENTS})::int)::uuid, 'user', {_ORG}, 0, '{COMMON}', '{{}}', 'https://example.test',
           'draft', '\\x00', 1000000000000, CASE WHEN n <= {SILENT_EVENTS} THEN 'timeout' END, 1, {_AT}, {_AT},
           {_AT} + interval '1000 days'
    FROM generate_series(1, $1::bigint) AS n""",
)


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
        for statement in _OTHERS if history.others else ():
            await owner.execute(statement, history.others, began, history.days, history.organizations)
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


_MCP_AGENTS = (UUID(int=0x7000_8000_0000_0000_0000), UUID(int=0x7000_8000_0000_0000_0001))
"""The agent of MCP that has nearly all, and one that has a few."""
_USES: dict[str, tuple[object, ...]] = {
    "user": (None, "user-1", UNKNOWN),
    "action": ("get-event", RARE_CALL, UNKNOWN),
    "actor": ("control", "command line", UNKNOWN),
    "agent": (COMMON_AGENT, RARE_AGENT, UNKNOWN),
    "event": (UUID(int=0x01000000_0000_7000_8000_000000000004),),
    "target": (f"{ORIGIN}/scheduled_events/7/invitees/7", UNKNOWN),
}
PATHS = {
    "uses": "audit/uses",
    "performed": "actions",
    "dead_letters": "dead-letters",
    "mcp_subscriptions": "mcp/subscriptions",
}
"""Lists whose path is not their operations' name."""


def list_queries() -> Iterator[tuple[str, PageQuery]]:
    """Yield every list with every mixture of its filters: common values, rare ones, those of the silent, unknown ones.

    A list is named as its operations are; of uses each filter is mixed with the organization's alone.
    """
    yield from _of_the_log()
    yield from _of_agents()
    yield from _of_calls()


def _of_the_log() -> Iterator[tuple[str, PageQuery]]:
    for org, type_ in product(ORGANIZATIONS, (None, COMMON, RARE, UNKNOWN)):
        yield "events", EventQuery(organization=org, type=type_)
        yield "events", EventQuery(organization=org, type=type_, subject=f"{ORIGIN}/{UNKNOWN}")
    for org, outcome in product(ORGANIZATIONS, (None, *get_args(Outcome))):
        yield "deliveries", DeliveryQuery(organization=org, outcome=outcome)
    for org, state, waiting in product(ORGANIZATIONS, (None, *get_args(State)), (False, True)):
        yield "bookings", BookingQuery(organization=org, state=state, waiting=waiting)
    states = ("all", "waiting", "retried", "discarded")
    for org, reason, kept in product(ORGANIZATIONS, (None, "not_json", "unknown_event", UNKNOWN), states):
        yield "quarantine", QuarantineQuery(organization=org, reason=reason, state=kept)
    for org, action, actor in product(ORGANIZATIONS, (None, "keys.revoke", UNKNOWN), (None, "control", UNKNOWN)):
        yield "audit", AuditQuery(organization=org, action=action, actor=actor)


def _of_agents() -> Iterator[tuple[str, PageQuery]]:
    for org, agent in product(ORGANIZATIONS, (None, COMMON_AGENT, RARE_AGENT)):
        for held in (None, "unknown", "diverged"):
            yield "runs", RunQuery(organization=org, agent=agent, state=held)
        for decided in (None, "open"):
            yield "approvals", ApprovalQuery(organization=org, agent=agent, state=decided)
        for given_up in ("open", "all"):
            yield "dead_letters", DeadLetterQuery(organization=org, agent=agent, state=given_up)


def _of_calls() -> Iterator[tuple[str, PageQuery]]:
    for org in ORGANIZATIONS:
        for settled in (None, "refused", "person"):
            yield "performed", ActionQuery(organization=org, state=settled)
        for id_, told in product((None, *_MCP_AGENTS), (None, "failing", "suspended", "ended")):
            yield "mcp_subscriptions", McpSubscriptionQuery(organization=org, agent_id=id_, state=told)
    for org, (filter_, values) in product((None, BUSY), _USES.items()):
        for value in values:
            yield "uses", UsesQuery.model_validate({"organization": org, filter_: value}, strict=False)
