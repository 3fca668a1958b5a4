"""Every operation of Calendly's API, as typed calls. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.api.activity_log import ActivityLogCalls
from slotwire.ingest.control.calendly_client.api.contact_fields import ContactFieldsCalls
from slotwire.ingest.control.calendly_client.api.contact_lists import ContactListsCalls
from slotwire.ingest.control.calendly_client.api.contacts import ContactsCalls
from slotwire.ingest.control.calendly_client.api.data_compliance import DataComplianceCalls
from slotwire.ingest.control.calendly_client.api.event_type_availability import EventTypeAvailabilityCalls
from slotwire.ingest.control.calendly_client.api.event_types import EventTypesCalls
from slotwire.ingest.control.calendly_client.api.group_relationships import GroupRelationshipsCalls
from slotwire.ingest.control.calendly_client.api.groups import GroupsCalls
from slotwire.ingest.control.calendly_client.api.invitee_no_shows import InviteeNoShowsCalls
from slotwire.ingest.control.calendly_client.api.invitees import InviteesCalls
from slotwire.ingest.control.calendly_client.api.locations import LocationsCalls
from slotwire.ingest.control.calendly_client.api.meeting_recaps import MeetingRecapsCalls
from slotwire.ingest.control.calendly_client.api.notes import NotesCalls
from slotwire.ingest.control.calendly_client.api.organization_invitations import OrganizationInvitationsCalls
from slotwire.ingest.control.calendly_client.api.organization_memberships import OrganizationMembershipsCalls
from slotwire.ingest.control.calendly_client.api.organizations import OrganizationsCalls
from slotwire.ingest.control.calendly_client.api.outgoing_communications import OutgoingCommunicationsCalls
from slotwire.ingest.control.calendly_client.api.routing_form_submissions import RoutingFormSubmissionsCalls
from slotwire.ingest.control.calendly_client.api.routing_forms import RoutingFormsCalls
from slotwire.ingest.control.calendly_client.api.scheduled_events import ScheduledEventsCalls
from slotwire.ingest.control.calendly_client.api.scheduling_links import SchedulingLinksCalls
from slotwire.ingest.control.calendly_client.api.shares import SharesCalls
from slotwire.ingest.control.calendly_client.api.teams import TeamsCalls
from slotwire.ingest.control.calendly_client.api.user_availability_schedules import UserAvailabilitySchedulesCalls
from slotwire.ingest.control.calendly_client.api.user_busy_times import UserBusyTimesCalls
from slotwire.ingest.control.calendly_client.api.user_meeting_limits import UserMeetingLimitsCalls
from slotwire.ingest.control.calendly_client.api.users import UsersCalls
from slotwire.ingest.control.calendly_client.api.webhook_subscriptions import WebhookSubscriptionsCalls
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport

__all__ = ["CalendlyApi"]


class CalendlyApi:
    """All of Calendly's operations, as the user of one transport."""

    def __init__(self, calendly: CalendlyTransport) -> None:
        self.activity_log = ActivityLogCalls(calendly)
        self.contact_fields = ContactFieldsCalls(calendly)
        self.contact_lists = ContactListsCalls(calendly)
        self.contacts = ContactsCalls(calendly)
        self.data_compliance = DataComplianceCalls(calendly)
        self.event_type_availability = EventTypeAvailabilityCalls(calendly)
        self.event_types = EventTypesCalls(calendly)
        self.group_relationships = GroupRelationshipsCalls(calendly)
        self.groups = GroupsCalls(calendly)
        self.invitee_no_shows = InviteeNoShowsCalls(calendly)
        self.invitees = InviteesCalls(calendly)
        self.locations = LocationsCalls(calendly)
        self.meeting_recaps = MeetingRecapsCalls(calendly)
        self.notes = NotesCalls(calendly)
        self.organization_invitations = OrganizationInvitationsCalls(calendly)
        self.organization_memberships = OrganizationMembershipsCalls(calendly)
        self.organizations = OrganizationsCalls(calendly)
        self.outgoing_communications = OutgoingCommunicationsCalls(calendly)
        self.routing_form_submissions = RoutingFormSubmissionsCalls(calendly)
        self.routing_forms = RoutingFormsCalls(calendly)
        self.scheduled_events = ScheduledEventsCalls(calendly)
        self.scheduling_links = SchedulingLinksCalls(calendly)
        self.shares = SharesCalls(calendly)
        self.teams = TeamsCalls(calendly)
        self.user_availability_schedules = UserAvailabilitySchedulesCalls(calendly)
        self.user_busy_times = UserBusyTimesCalls(calendly)
        self.user_meeting_limits = UserMeetingLimitsCalls(calendly)
        self.users = UsersCalls(calendly)
        self.webhook_subscriptions = WebhookSubscriptionsCalls(calendly)
