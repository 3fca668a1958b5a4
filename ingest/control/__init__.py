"""What Slotwire does at Calendly: connect organizations, and create, watch and delete their webhook subscriptions.

actions/              what callers have done at Calendly, once for each of their keys
calendly_client/      Calendly's REST API: HTTP in one file, one file per resource
catalogue             pure: which events exist, in which scope, and the OAuth scopes they need
token_claims          pure: what a token claims about itself

connections           credentials: add, check, use, delete
connection_records    connections as they are stored
connection_states     pure: the states and the transitions between them
connection_events     pure: the events about connections
connection_checks     a chore: asks Calendly whether each credential still works
connection_store      each change of state, and the event that says so
capabilities          what each connection can do at Calendly
disconnect            ends an OAuth connection: what hangs on it, its grant, its row
connect_links         links under which a customer connects in the browser
oauth_listener        the public listener for them, and for approvals
oauth_flow            from a link to live events
held_grants           what Calendly gave and is not stored yet: kept, or given back
oauth_pages           pure: the pages a customer sees
approval_links        links under which a person decides about what an agent asks for
approval_listener     the routes of those pages
approval_html         pure: those pages
page_frame            pure: what all pages share
oauth_refresh         a chore: refreshes OAuth connections at half of a token's life
app_keys              the keys with which Calendly signs for our OAuth app

organizations         add, list, rename and remove organizations
organization_records  organizations as they are stored, and their names
subscriptions         reconciles wanted subscriptions with Calendly
subscription_plan     pure: which steps a reconciliation takes
subscription_facts    pure: what it compares
subscription_findings pure: what may be wrong, and what mends it
subscription_events   pure: the events about subscriptions
subscription_calls    creates, lists and deletes them at Calendly
subscription_store    each change of state, under a claim
subscription_records  subscriptions as they are listed
event_families        pure: what plan or scopes refuse, family by family
claims                who may change an organization's subscriptions now
signing_keys          signing keys as they are listed, renewed, and revoked at once
holes                 times in which deliveries may have been missed, as they are noted
hole_records          holes as they are stored, and the claims to fill them
hole_rounds           a chore: fills the holes that are due
hole_fetch            one fetch: what Calendly has by REST goes in by the door
hole_resources        contacts, event types and recaps in a fetch
known_bookings        what is known of the bookings before a fetch asks
fetch_plan            pure: what a fetch reads
fetch_progress        pure: how far a fetch has come, and its report
meeting_rounds        a chore: tells the moments of scheduled events, which Calendly does not
meeting_events        pure: the events about them
changes               changes that no webhook tells, found by comparing
meetings              meetings with their invitees, as a backfill and a fetch read them
backfill              reads existing bookings by REST, and lets them in by the door
backfill_rounds       a chore: runs the backfills that are due
rounds                a chore: reconciles every organization, again and again
round_schedule        pure: when a round is due, and what it lists
round_records         what a round leaves for the next
activity              counts webhooks by organization, hour and subscription
ranges                a chore: makes the partitions of the coming days
idle_budgets          a chore: removes the rate budgets of users whom nobody acts as
erasure               takes a person's data out of everything that is stored, and ends what agents do for them
retention             a chore: removes what is old and no longer needed
observation           a chore of one process: reads Postgres for everybody's metrics
silence               pure: how usual an organization's silence is, by its own hours of the week
"""
