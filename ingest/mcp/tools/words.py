"""What the tools of Calendly's operations are called, and what is said of them. One line for each operation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "add-contacts-to-static-list": "add_contacts_to_list",
        "createwebhooks": "create_webhook_subscription",
        "delete-meeting-recaps-uuid": "delete_meeting_recap",
        "get-event-type-availability": "list_event_type_availability",
        "get-groups": "list_groups",
        "get-meeting-recaps-uuid-recap": "get_meeting_recap",
        "get-outgoing-communications": "list_outgoing_communications",
        "get-scheduled-event-invitees": "get_invitee",
        "get-transcript-meeting-recaps": "get_meeting_transcript",
        "list-event-invitees": "list_invitees",
        "list-event-type-available-times": "list_available_times",
        "list-user-availability-schedules": "list_availability_schedules",
        "list-user-busy-times": "list_busy_times",
        "list-user-locations": "list_locations",
        "list-user-meeting-limits": "list_meeting_limits",
        "get-user-availability-schedule": "get_availability_schedule",
        "patch-contacts-uuid": "update_contact",
        "remove-contacts-from-static-list": "remove_contacts_from_list",
        "update-meeting-recaps-uuid": "update_meeting_recap",
        "update-user-meeting-limits": "update_meeting_limits",
    }
)
"""Where a tool is not called as its operation is."""
DEEDS = frozenset(
    {"post-invitee", "create-scheduled-event-cancellation", "create-invitee-no-show", "delete-invitee-no-show"}
)
"""Operations that are no tools: they would act twice when they are repeated. `deeds.py` has tools that do not."""
SAID: Mapping[str, str] = MappingProxyType(
    {
        "list-activity-log-entries": "List who changed what in the organization. Needs the Enterprise plan.",
        "list-contact-lists": "List the user's lists of contacts.",
        "create-contact-list": "Make a list of contacts. Twice makes two.",
        "get-contact-list": "Read one list of contacts.",
        "update-contact-list": "Rename a list of contacts.",
        "add-contacts-to-static-list": "Put contacts on a list. Those who are on it stay.",
        "remove-contacts-from-static-list": "Take contacts off a list. The contacts themselves stay.",
        "list-contacts": "Search the user's contacts by name, mail address, company or place.",
        "create-contact": "Add a contact. Look for the mail address first: twice makes two.",
        "list-contact-custom-field-definitions": "List the custom fields that contacts can have.",
        "create-contact-custom-field-definition": "Add a custom field for contacts.",
        "get-contact-custom-field-definition": "Read one custom field of contacts.",
        "delete-contact": "Delete a contact. It cannot be brought back.",
        "get-contact": "Read one contact.",
        "patch-contacts-uuid": "Change a contact. Mail addresses and phone numbers are replaced as a whole.",
        "delete-scheduled-event-data": "Have Calendly erase all meetings of a time, for a privacy request. For ever.",
        "delete-invitee-data": "Have Calendly erase people by mail address, for a privacy request. For ever.",
        "get-event-type-availability": "Read the weekly hours in which an event type can be booked.",
        "update-event-type-availability": "Change the weekly hours in which an event type can be booked.",
        "list-event-type-available-times": "List the free slots of an event type, over at most 31 days.",
        "list-event-type-memberships": "List the hosts of an event type.",
        "list-event-types": "List what can be booked with the user: event types with URI, duration and locations.",
        "create-event-type": "Add an event type. Twice makes two.",
        "get-event-type": "Read one event type, with its questions and locations.",
        "update-event-type": "Change an event type.",
        "list-group-relationships": "List who belongs to which group.",
        "get-group-relationship": "Read one membership of a group.",
        "get-groups": "List the groups of the organization.",
        "get-group": "Read one group.",
        "get-invitee-no-show": "Read one no-show mark.",
        "list-user-locations": "List the places where the user meets people.",
        "list-meeting-recaps": "List the recaps of meetings.",
        "delete-meeting-recaps-uuid": "Delete a recap. It cannot be brought back.",
        "get-meeting-recaps-uuid-recap": "Read one recap: summary, action items, discussion.",
        "update-meeting-recaps-uuid": "Change the texts of a recap.",
        "get-transcript-meeting-recaps": "Read what was said in a meeting, as a text.",
        "list-notes": "List the notes about a contact.",
        "create-note": "Write a note about a contact. Twice makes two.",
        "get-note": "Read one note.",
        "create-one-off-event-type": "Make an event type for one meeting.",
        "list-organization-memberships": "List the people of the organization with their roles.",
        "delete-organization-membership": "Remove a person from the organization.",
        "get-organization-membership": "Read one person's membership in the organization.",
        "revoke-organization-invitation": "Take back an invitation to the organization.",
        "get-organization-invitation": "Read one invitation to the organization.",
        "get-organization": "Read the organization.",
        "list-organization-invitations": "List invitations to the organization.",
        "create-organization-invitation": "Invite somebody to the organization. A mail is sent.",
        "get-outgoing-communications": "List the messages that Calendly sent to invitees. Needs the Enterprise plan.",
        "list-routing-form-submissions": "List what people submitted in a routing form.",
        "get-routing-form-submission": "Read one submission of a routing form.",
        "list-routing-forms": "List the organization's routing forms.",
        "get-routing-form": "Read one routing form with its questions.",
        "get-sample-webhook-data": "Read a made-up webhook delivery. Never take it for a real one.",
        "list-scheduled-events": "List the user's meetings at Calendly, by time and status.",
        "get-scheduled-event-invitees": "Read one invitee of a meeting, with the answers they gave.",
        "get-scheduled-event": "Read one meeting: time, place, hosts, status.",
        "list-event-invitees": "List who booked a meeting.",
        "create-scheduling-link": "Make a link by which an event type can be booked once.",
        "create-share": "Make a link to an event type with settings of its own, for example other hours.",
        "list-teams": "List the user's teams.",
        "get-team": "Read one team.",
        "list-user-availability-schedules": "List the user's weekly hours.",
        "get-user-availability-schedule": "Read one of the user's schedules of weekly hours.",
        "list-user-busy-times": "List when the user is busy, over at most 7 days.",
        "list-user-meeting-limits": "Read how many meetings the user takes in a day, week or month.",
        "update-user-meeting-limits": "Change how many meetings the user takes; null is no limit.",
        "get-current-user": "Read whom you act for: name, mail address, time zone, organization.",
        "get-user": "Read one user.",
        "list-webhook-subscriptions": "List webhook subscriptions at Calendly, those of Slotwire included.",
        "createwebhooks": "Subscribe an address to webhooks. Slotwire makes its own subscriptions by itself.",
        "delete-webhook-subscription": "Delete a webhook subscription. Without those of Slotwire no event comes in.",
        "get-webhook-subscription": "Read one webhook subscription.",
    }
)
"""What each operation does, for a model: one sentence or two."""
ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "active": "Only those that can be booked (true), or cannot (false).",
        "actor": "Only what these users did, by their URIs.",
        "admin_managed": "Only those that admins manage (true), or others (false).",
        "attendee": "Only meetings with this mail address.",
        "contact": "The contact's URI or id.",
        "contact_list": "The list's URI or id.",
        "contacts": "URIs or ids of contacts.",
        "email": "A mail address.",
        "emails": "Mail addresses.",
        "end_time": "The end of the time, RFC 3339 with an offset: 2026-12-02T09:00:00Z.",
        "event_type": "The event type's URI or id, as list_event_types shows it.",
        "form": "The routing form's URI or id.",
        "group": "The group's URI or id.",
        "invitee": "The invitee's URI, as list_invitees or list_bookings shows it.",
        "invitee_email": "Only meetings that this mail address booked.",
        "limit": "The most items to return.",
        "max_created_at": "Only until then, RFC 3339.",
        "max_event_count": "How often it can be booked: 1.",
        "max_occurred_at": "Only until then, RFC 3339.",
        "max_start_time": "Only meetings that start before then, RFC 3339.",
        "min_created_at": "Only from then on, RFC 3339.",
        "min_occurred_at": "Only from then on, RFC 3339.",
        "min_start_time": "Only meetings that start from then on, RFC 3339.",
        "organization": "The organization's URI or id.",
        "owner": "The URI of the user or group, or of the event type, that it belongs to.",
        "page": "`next_page` of the answer before; left out for the first page.",
        "scheduled_event": "The meeting's URI or id, as list_scheduled_events or list_bookings shows it.",
        "scope": "`organization`, `user` or `group`.",
        "sort": "A field and a direction, for example `start_time:desc`.",
        "start_time": "The beginning of the time, RFC 3339 with an offset: 2026-12-01T09:00:00Z.",
        "status": "Only in this state, for example `active` or `canceled`.",
        "user": "The user's URI or id.",
    }
)
"""What is said of an argument, wherever it stands."""
FILLED: Mapping[str, str] = MappingProxyType(
    {"organization": " Left out: that of the user you act for.", "user": " Left out: the user you act for."}
)
"""What is added where it is filled in."""
SINGULAR: Mapping[str, str] = MappingProxyType(
    {
        "contact_lists": "contact_list",
        "contacts": "contact",
        "custom_field_definitions": "custom_field",
        "event_types": "event_type",
        "group_relationships": "group_relationship",
        "groups": "group",
        "invitations": "invitation",
        "invitee_no_shows": "no_show_mark",
        "invitees": "invitee",
        "meeting_recaps": "meeting_recap",
        "notes": "note",
        "organization_memberships": "membership",
        "organizations": "organization",
        "routing_form_submissions": "submission",
        "routing_forms": "form",
        "scheduled_events": "scheduled_event",
        "teams": "team",
        "user_availability_schedules": "availability_schedule",
        "users": "user",
        "webhook_subscriptions": "webhook_subscription",
    }
)
"""What one thing of a collection is called: an id in a path takes its name from the collection before it."""
CALLED: Mapping[str, str] = MappingProxyType({"event": "scheduled_event"})
"""Parameters of queries whose name means something else to a model; not those of sample deliveries."""
