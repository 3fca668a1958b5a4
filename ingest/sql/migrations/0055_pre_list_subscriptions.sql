-- squawk-ignore-file require-concurrent-index-creation
-- These tables have a row for each subscription, or customer: their indexes are built in a moment.

-- Subscriptions are replaced again and again, and those that ended stay.
CREATE INDEX subscriptions_live ON slotwire.subscriptions (org, created_at, id) WHERE state <> 'ended';
CREATE INDEX subscriptions_lost ON slotwire.subscriptions (org, lost_at) WHERE lost_at IS NOT NULL;
CREATE INDEX subscriptions_ended ON slotwire.subscriptions (org, ended_at) WHERE state = 'ended';
CREATE INDEX subscriptions_connection ON slotwire.subscriptions (connection_id) WHERE state <> 'ended';
CREATE INDEX signing_keys_created ON slotwire.signing_keys (created_at, id);
CREATE INDEX subscription_watch_findings ON slotwire.subscription_watch (org) WHERE findings <> '{}';
CREATE INDEX subscription_watch_silent ON slotwire.subscription_watch (org) WHERE silent;
