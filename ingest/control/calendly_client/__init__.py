"""Calendly's REST API: every operation as a table and as a typed call, and what Slotwire itself relies on.

transport                 the one file that calls Calendly: limits, retries, errors translated
shared_connections        the connections that it uses
retries                   how often and how long a call is tried
answers                   pure: what an error answer means
pages                     lists, page after page
operations                calls of the table in `foundation/operation_table.py`, by name: for calls that a person makes
api                       a typed call for each operation, a file a resource; made from the table
typed                     what the typed calls share
documents                 what the typed calls give, read leniently
budget                    turns to call, fair and shared by all processes
user_budget               the same for one user
leases                    turns as Postgres gives them
booking_limits            the limits of `POST /invitees`, by the organization's plan
uses                      what the audit says of a call
use_log                   writes it
addresses                 where a token may be sent
oauth                     codes and refresh tokens
resources                 what the resources below share: URI, envelope, path. They read what `control` relies on,
                          and fail where that is missing

users                     whose token this is
organizations             the tenants
organization_memberships  users and their roles
webhook_subscriptions     create, list, read, delete
event_types               what can be booked
scheduled_events          booked meetings
invitees                  invitees of a meeting
invitee_no_shows          no-show marks
routing_forms             forms
routing_form_submissions  what people submitted
contacts                  contacts of the token's user
meeting_recaps            meeting recaps of the token's user
"""
