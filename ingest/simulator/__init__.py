"""A small Calendly: REST v2, webhook subscriptions and a signed sender with Calendly's retry rules.

Of the service it tests it uses only `ingest/foundation` and `ingest/errors.py`. Its signature, payloads and error
bodies are written a second time from the same facts about Calendly, so that they check ours.

    app ─┬▶ rest_…: Calendly's API ─────────────┬▶ engine ─▶ bookings, ledger (SQLite)
         └▶ control, access, jobs: /simulator/… ┘      └───▶ outbox ─▶ sender ──HTTP──▶ subscribers on this machine

Its files:

    app                  the whole simulator: state file, world, sender, HTTP server
    client               calls a running simulator's `/simulator/…`, for commands and scripts

    rest_people          Calendly's API: users, organizations, memberships, event types, routing forms, groups
    rest_scheduling      Calendly's API: scheduled events, invitees, no-shows, routing form submissions
    rest_invitees        Calendly's API: bookings by API
    rest_subscriptions   Calendly's API: webhook subscriptions
    rest_event_types     Calendly's API: event types that are made and changed
    rest_availability    Calendly's API: schedules, available and busy times, limits, places
    rest_contacts        Calendly's API: contacts, lists, notes
    rest_account         Calendly's API: invitations, teams, groups' members, recaps, what is logged
    fields               checks of the values in a request's body
    rates                how many calls each user may make
    gate                 token, rate limit and scope of each REST call
    paging               pages and query parameters
    problems             Calendly's error bodies
    payloads             webhook bodies and REST resources

    control              `/simulator/…`: actions, clock, faults, deliveries
    access               `/simulator/…`: tokens, members, plans, the record of REST calls
    jobs                 `/simulator/…`: loads and stories

    oauth                the consent page, the token endpoint, revocation, introspection; the app at `/simulator/oauth`
    oauth_grants         codes, and refresh tokens that work once

    requests             the shapes of these requests
    scenarios            sequences of bookings, moves and cancellations for loads and stories

    engine               what can happen to a booking, and the deliveries that follow
    outbox               one message per matching subscription
    telling              tells subscriptions of contacts and recaps
    sender               sends messages with Calendly's retry rules
    transport            one POST to an address on this machine
    signature            the webhook signature

    model                the simulator's data
    world                organizations, users, event types and OAuth app of a seed
    changes              later changes of members and plans
    edits                edits of meetings that no webhook tells
    bookings             scheduled events, invitees, submissions and tokens in the state file
    shelf                documents that people keep besides bookings
    meeting_limits       how many meetings a user takes
    ledger               subscriptions, messages and attempts in the state file
    database             the state file
    calls                the record of REST calls, and whether one reached another organization
    drafts               new scheduled events and invitees
    people               invented names, addresses and answers
    draws                seeded choices
    clock                the clock, which can be moved forward
"""
