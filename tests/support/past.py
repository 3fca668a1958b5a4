"""What is over and kept, made in the server: removed organizations, ended subscriptions, old facts and the like."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

PAST = 3_000
"""Rows of each kind."""
LIVE = "live"
"""The organization that is not removed: one connection, subscription, hole and due sweep and round."""

_ID = "('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_ROWS = f"FROM generate_series(1, {PAST}) AS n"
_AT = "$1::timestamptz"
_HOST = "https://api.calendly.com"
_STATEMENTS = (
    f"""INSERT INTO slotwire.organizations (org, uri, external_id, shard, created_at, ended_at)
    SELECT 'gone-' || n, '{_HOST}/organizations/gone-' || n, 'gone ' || n, 0, {_AT}, {_AT} {_ROWS}
    UNION ALL
    SELECT '{LIVE}', '{_HOST}/organizations/{LIVE}', NULL, 0, {_AT}, NULL""",
    f"""INSERT INTO slotwire.subscription_watch (org, findings)
    SELECT org, ARRAY['gone organization'] FROM slotwire.organizations WHERE created_at = {_AT}""",
    f"""INSERT INTO slotwire.change_sweeps (org, due_at)
    SELECT org, {_AT} FROM slotwire.organizations WHERE created_at = {_AT}""",
    f"""INSERT INTO slotwire.wanted_subscriptions (org, scope, subject, events, changed_at)
    SELECT org, 'organization', '', '{{invitee.created}}', {_AT} FROM slotwire.organizations""",
    f"""INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, refresh_sealed,
        access_expires_at, refresh_at, state, checked_at, created_at, changed_at)
    SELECT {_ID}, CASE WHEN n = 1 THEN '{LIVE}' ELSE 'gone-' || n END, 'oauth', 'user-' || n, {_ID}, '\\x00',
           '\\x00', {_AT}, {_AT}, 'active', {_AT}, {_AT}, {_AT} {_ROWS}""",
    f"""UPDATE slotwire.connections SET state = 'revoked', reason = 'refused', changed_at = {_AT}
    WHERE user_uri <> 'user-1'""",
    f"""INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, events, state, created_at, ended_at, lost_at,
        lost_reason, restored_by, connection_id)
    SELECT {_ID}, '{LIVE}', 'hook-' || n, 'organization', '{{invitee.created}}',
           CASE WHEN n = 1 THEN 'active' ELSE 'ended' END, {_AT}, CASE WHEN n > 1 THEN {_AT} END,
           CASE WHEN n > 1 THEN {_AT} END, CASE WHEN n > 1 THEN 'gone' END, {_ID}, {_ID} {_ROWS}""",
    f"""INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at)
    SELECT {_ID}, {_ID}, '\\x00', {_AT} {_ROWS}""",
    f"""INSERT INTO slotwire.holes (id, org, cause, subscription_id, since, noticed_at, last_noticed_at, state, due_at,
        report, closed_at)
    SELECT {_ID}, 'gone-' || n, 'asked', NULL::uuid, {_AT}, {_AT}, {_AT}, 'closed', {_AT}, '{{}}'::jsonb, {_AT} {_ROWS}
    UNION ALL
    SELECT gen_random_uuid(), org, 'subscription_gone', id, {_AT}, {_AT}, {_AT}, 'open', {_AT}, NULL, NULL::timestamptz
    FROM slotwire.subscriptions WHERE hook_id = 'hook-2'""",
    f"""INSERT INTO slotwire.erasures (id, org, state, asked_at, asked_by, done_at)
    SELECT {_ID}, '{LIVE}', 'done', {_AT}, 'test', {_AT} {_ROWS}""",
    f"""INSERT INTO slotwire.connect_links (id, ticket_hash, org, created_at, expires_at, spent_at, connection_id)
    SELECT {_ID}, {_ID}::text::bytea, '{LIVE}', {_AT}, {_AT}, {_AT}, {_ID} {_ROWS}""",
    f"""INSERT INTO slotwire.activity (org, hour, deliveries, last_at)
    SELECT '{LIVE}', {_AT} + make_interval(hours => n), 1, {_AT} {_ROWS}""",
    f"""INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target, state,
        evidence, step, step_at, called_at, head, mark, intended_at, settled_at)
    SELECT {_ID}, '{LIVE}', 'caller', 'key-' || n, '\\x00', 'mark_no_show', {_ID}, 'user-1', 'invitee-' || n,
           'done', 'answer', 'mark', {_AT}, {_AT}, 0, 'mark-' || n, {_AT}, {_AT} {_ROWS}""",
    f"""INSERT INTO slotwire.moves (action_id, org, old_invitee, event_type, start_time, person, since, new_invitee,
        ended)
    SELECT {_ID}, '{LIVE}', 'old-' || n, 'type', {_AT}, '', {_AT} + interval '400 days', 'new-' || n, true {_ROWS}""",
    f"""INSERT INTO slotwire.audit (id, at, actor, role, org, action, result)
    SELECT ('ff' || substr({_ID}::text, 3))::uuid, {_AT} + interval '400 days', 'test', 'admin', '{LIVE}',
           'keys.revoke', 'done' {_ROWS}""",
    f"""INSERT INTO slotwire.inbox (agent, event_id, done_at)
    SELECT 'crm', {_ID}, {_AT} + interval '400 days' {_ROWS}""",
    f"""INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees,
        new_invitees, marks, clears, scheduled_event, start_time, end_time, hosts, changed_at)
    SELECT '{_HOST}/scheduled_events/' || n || '/invitees/' || n, '{LIVE}', 1,
           CASE WHEN n % 2 = 0 THEN 'active' ELSE 'canceled' END, md5(n::text), 'root-' || n, '{{}}', '{{}}', '[]',
           '[]', '{_HOST}/scheduled_events/' || n, {_AT}, {_AT}, '{{}}', {_AT} {_ROWS}""",
)


async def write_past(owner_url: str, began: datetime) -> None:
    """Fill an empty database that is migrated with what was over at a time."""
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("SELECT slotwire.make_ranges($1, 7)", began + timedelta(days=1))
        for statement in _STATEMENTS:
            await owner.execute(statement, began)
        await owner.execute("VACUUM ANALYZE")
    finally:
        await owner.close()
