-- Statements of the vault's rotation: read and seal again, in pages, every table with sealed secrets.

-- name: stale_signing_keys
-- Signing keys that are not sealed with the current key (they begin otherwise), after a place.
SELECT k.id, k.sealed, s.id AS subscription_id, s.org
FROM slotwire.signing_keys k JOIN slotwire.subscriptions s ON s.id = k.subscription_id
WHERE substr(k.sealed, 1, octet_length($1::bytea)) <> $1 AND k.id > $3 ORDER BY k.id LIMIT $2

-- name: reseal_signing_keys
-- Writes signing keys back if they are still as they were read.
UPDATE slotwire.signing_keys k SET sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS n (before, after, id)
WHERE k.id = n.id AND k.sealed = n.before

-- name: stale_connections
-- The same for credentials.
SELECT id, sealed, org, credential_id FROM slotwire.connections
WHERE substr(sealed, 1, octet_length($1::bytea)) <> $1 AND id > $3 ORDER BY id LIMIT $2

-- name: reseal_connections
-- Writes credentials back if they are still as they were read.
UPDATE slotwire.connections c SET sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS n (before, after, id)
WHERE c.id = n.id AND c.sealed = n.before

-- name: stale_refresh_tokens
-- The same for the refresh tokens of OAuth connections.
SELECT id, refresh_sealed AS sealed, org, credential_id FROM slotwire.connections
WHERE substr(refresh_sealed, 1, octet_length($1::bytea)) <> $1 AND id > $3 ORDER BY id LIMIT $2

-- name: reseal_refresh_tokens
-- Writes refresh tokens back if they are still as they were read.
UPDATE slotwire.connections c SET refresh_sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS n (before, after, id)
WHERE c.id = n.id AND c.refresh_sealed = n.before

-- name: stale_pending
-- The same for pairs of tokens that are not stored yet; one that Calendly is still asked for is empty.
SELECT link_id, sealed FROM slotwire.pending_connections
WHERE sealed <> '' AND substr(sealed, 1, octet_length($1::bytea)) <> $1 AND link_id > $3 ORDER BY link_id LIMIT $2

-- name: reseal_pending
-- Writes such pairs back if they are still as they were read.
UPDATE slotwire.pending_connections p SET sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS n (before, after, id)
WHERE p.link_id = n.id AND p.sealed = n.before

-- name: stale_app_keys
-- The same for the signing keys of the OAuth app.
SELECT id, sealed FROM slotwire.app_signing_keys
WHERE substr(sealed, 1, octet_length($1::bytea)) <> $1 AND id > $3 ORDER BY id LIMIT $2

-- name: reseal_app_keys
-- Writes them back if they are still as they were read.
UPDATE slotwire.app_signing_keys a SET sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS n (before, after, id)
WHERE a.id = n.id AND a.sealed = n.before

-- name: stale_answers
-- The same for stored answers.
SELECT key_id, idempotency_key, sealed FROM slotwire.idempotent_answers
WHERE substr(sealed, 1, octet_length($1::bytea)) <> $1 AND (key_id, idempotency_key) > ($3, $4)
ORDER BY key_id, idempotency_key LIMIT $2

-- name: reseal_answers
-- Writes stored answers back if they are still as they were read.
UPDATE slotwire.idempotent_answers a SET sealed = n.after
FROM unnest($1::bytea[], $2::bytea[], $3::uuid[], $4::text[]) AS n (before, after, key_id, idempotency_key)
WHERE a.key_id = n.key_id AND a.idempotency_key = n.idempotency_key AND a.sealed = n.before

-- name: sealed_by
-- How many secrets begin with which version and key name.
SELECT CASE WHEN octet_length(sealed) > 2 THEN substr(sealed, 1, 2 + get_byte(sealed, 1)) ELSE sealed END AS head,
       count(*) AS secrets
FROM (SELECT sealed FROM slotwire.signing_keys
      UNION ALL SELECT sealed FROM slotwire.connections
      UNION ALL SELECT refresh_sealed FROM slotwire.connections WHERE refresh_sealed IS NOT NULL
      UNION ALL SELECT sealed FROM slotwire.pending_connections WHERE sealed <> ''
      UNION ALL SELECT sealed FROM slotwire.app_signing_keys
      UNION ALL SELECT sealed FROM slotwire.idempotent_answers WHERE sealed IS NOT NULL) AS every
GROUP BY head ORDER BY head
