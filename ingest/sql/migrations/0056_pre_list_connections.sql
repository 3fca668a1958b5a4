-- squawk-ignore-file require-concurrent-index-creation
-- These tables have a row for each connected user, or link: their indexes are built in a moment.

CREATE INDEX connections_org ON slotwire.connections (org, created_at, id);
CREATE INDEX connections_user ON slotwire.connections (user_uri);
CREATE INDEX connections_check ON slotwire.connections (checked_at, id) WHERE state <> 'revoked';
CREATE INDEX connections_refresh ON slotwire.connections (refresh_at, id)
    WHERE kind = 'oauth' AND state <> 'revoked' AND reason IS DISTINCT FROM 'grant_lost';
CREATE INDEX connect_links_over ON slotwire.connect_links (expires_at) WHERE connection_id IS NULL;
