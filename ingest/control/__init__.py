"""What Slotwire does at Calendly: connect organizations, and create, watch and delete their webhook subscriptions.

calendly_client/      Calendly's REST API: HTTP in one file, one file per resource
catalogue             pure: which events exist, in which scope, and the OAuth scopes they need
token_claims          pure: what a token claims about itself

connections           credentials: add, check, use, delete
connection_records    connections as they are stored
connection_states     pure: the states and the transitions between them
connection_events     pure: the events about connections
connection_checks     a chore: asks Calendly whether each credential still works

organizations         add, list, rename and remove organizations
organization_records  organizations as they are stored, and their names
subscriptions         reconciles wanted subscriptions with Calendly
subscription_records  subscriptions as they are stored
signing_keys          signing keys as they are listed, and revoked at once
subscription_plan     pure: which steps a reconciliation takes
holes                 times in which deliveries may have been missed, as they are noted
hole_records          holes as they are stored, and the claims to fill them
hole_rounds           a chore: fills the holes that are due
hole_fetch            one fetch: what Calendly has by REST goes in by the door
hole_resources        contacts, event types and recaps in a fetch
known_bookings        what is known of the bookings before a fetch asks
fetch_progress        pure: how far a fetch has come, and its report
meetings              meetings with their invitees, as a backfill and a fetch read them
backfill              reads existing bookings by REST, and lets them in by the door
backfill_rounds       a chore: runs the backfills that are due
rounds                a chore: reconciles every organization, again and again
ranges                a chore: makes the partitions of the coming days
retention             a chore: removes what is old and no longer needed
observation           a chore of one process: reads Postgres for everybody's metrics
silence               pure: how usual an organization's silence is, by its own hours of the week
"""
