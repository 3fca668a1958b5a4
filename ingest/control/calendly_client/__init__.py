"""Calendly's REST API: what Slotwire uses, typed, and every operation as a table.

transport                 the one file that speaks HTTP to Calendly: limits, retries, errors translated
retries                   how often and how long a call is tried
answers                   pure: what an error answer means
pages                     lists, page after page
operations                all 77 operations, with what each takes: for calls that a person makes
resources                 what all resources share: URI, envelope, path

users                     whose token this is
organizations             the tenants
organization_memberships  users and their roles
webhook_subscriptions     create, list, read, delete
scheduled_events          booked meetings
invitees                  invitees of a meeting
invitee_no_shows          no-show marks
routing_forms             forms
routing_form_submissions  what people submitted
"""
