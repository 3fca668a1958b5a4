"""Webhook bodies and REST resources, built from the model. Pure.

As in captured deliveries: the envelope's `created_at` has whole seconds while payload times have microseconds;
the keys of envelope and payload are alphabetical; slashes are not escaped; a Zoom id is an integer above 2^32; a
Google or Teams link is a redirect at calendly.com that is set while the conference is still `processing`.
Source: docs/reference/calendly.md, "Webhook signature", "Delivery", "Payloads", "Location".
"""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson

from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import (
    Json,
    SimulatedCancellation,
    SimulatedEventType,
    SimulatedGroup,
    SimulatedInvitee,
    SimulatedOrganization,
    SimulatedRoutingForm,
    SimulatedScheduledEvent,
    SimulatedSubmission,
    SimulatedSubscription,
    SimulatedUser,
    uri,
)

TRACKING = ("utm_campaign", "utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid")
ZOOM_FLOOR = 80_000_000_000
BUFFER = timedelta(minutes=5)


def encode(value: object) -> bytes:
    """Return compact JSON in UTF-8 with unescaped slashes, as in captured deliveries."""
    return orjson.dumps(value)


def envelope(event: str, payload: bytes, created_by: str, at: datetime) -> bytes:
    """Return a delivery's body with an encoded payload. `created_at` has whole seconds, as Calendly's has."""
    head = {"created_at": stamp(at.replace(microsecond=0)), "created_by": uri("users", created_by), "event": event}
    return encode(head)[:-1] + b',"payload":' + payload + b"}"


def location(kind: str, event: str, draws: Draws, phone: str | None = None) -> Json | None:
    """Return a scheduled event's location; the kind `none` gives null, which Calendly may send."""
    join = f"https://calendly.com/events/{event}"
    teams = {"audioConferencing": None, "id": f"19:meeting_{draws.octets(12).hex()}@thread.v2"}
    found: Json | None = {"location": "As agreed", "type": kind}
    match kind:
        case "zoom":
            found = _zoom(draws)
        case "google_conference":
            found = {"join_url": f"{join}/google_meet", "status": "processing", "type": kind}
        case "microsoft_teams_conference":
            found = {"data": teams, "join_url": f"{join}/microsoft_teams", "status": "processing", "type": kind}
        case "physical":
            found = {"additional_info": "Ring twice", "location": "1 Example Street, Sampleton", "type": kind}
        case "outbound_call":
            found = {"location": phone, "type": kind}
        case "none":
            found = None
    return found


def _zoom(draws: Draws) -> Json:
    number = ZOOM_FLOOR + draws.below(9_000_000_000)
    dial_in = {"country": "US", "country_name": "US", "number": "+1 202 555 0100", "type": "toll"}
    data = {
        "extra": None if draws.chance(0.5) else {"intl_numbers_url": "https://zoom.example.com/u/numbers"},
        "id": number,
        "password": f"simulated-{draws.octets(4).hex()}",
        "settings": {} if draws.chance(0.3) else {"global_dial_in_numbers": [dial_in]},
    }
    return {"data": data, "join_url": f"https://zoom.example.com/j/{number}", "status": "pushed", "type": "zoom"}


def cancellation(value: SimulatedCancellation) -> Json:
    """Return the cancellation object of an invitee or a scheduled event."""
    return {
        "canceled_by": value.canceled_by,
        "canceler_type": value.canceler_type,
        "created_at": stamp(value.created_at),
        "reason": value.reason,
    }


def scheduled_event(
    event: SimulatedScheduledEvent, host: SimulatedUser, total: int, active: int, *, rest: bool = False
) -> Json:
    """Return a scheduled event as in webhooks, or as in REST, which has a few more fields."""
    member: Json = {"user": uri("users", host.id), "user_email": host.email, "user_name": host.name}
    body: Json = {"cancellation": cancellation(event.cancellation)} if event.cancellation else {}
    if rest:
        member["buffered_start_time"] = stamp(event.start - BUFFER)
        member["buffered_end_time"] = stamp(event.end + BUFFER)
        body["calendar_event"] = {"external_id": f"sim{event.id.replace('-', '')}", "kind": "google"}
    guests = [
        {"email": email, "created_at": stamp(event.created_at), "updated_at": stamp(event.created_at)}
        for email in event.guests
    ]
    body |= {
        "created_at": stamp(event.created_at),
        "end_time": stamp(event.end),
        "event_guests": guests,
        "event_memberships": [member],
        "event_type": uri("event_types", event.event_type),
        "invitees_counter": {"total": total, "active": active, "limit": event.limit},
        "location": event.location,
        "meeting_notes_html": None,
        "meeting_notes_plain": None,
        "name": event.name,
        "start_time": stamp(event.start),
        "status": event.status,
        "updated_at": stamp(event.updated_at),
        "uri": event.uri,
    }
    return body


def invitee(value: SimulatedInvitee) -> Json:
    """Return an invitee as in REST. Webhooks add the scheduled event (`invitee_payload`)."""
    body: Json = {"cancel_url": f"https://calendly.com/cancellations/{value.id}"}
    if value.cancellation:
        body["cancellation"] = cancellation(value.cancellation)
    mark = value.no_show
    tracking = dict(value.tracking)
    body |= {
        "created_at": stamp(value.created_at),
        "email": value.email,
        "event": uri("scheduled_events", value.event),
        "first_name": value.first_name,
        "invitee_scheduled_by": value.scheduled_by,
        "last_name": value.last_name,
        "name": value.name,
        "new_invitee": value.new_invitee,
        "no_show": {"created_at": stamp(mark.created_at), "uri": mark.uri} if mark else None,
        "old_invitee": value.old_invitee,
        "payment": value.payment,
        "questions_and_answers": [
            {"answer": each.answer, "position": each.position, "question": each.question} for each in value.answers
        ],
        "reconfirmation": None,
        "reschedule_url": f"https://calendly.com/reschedulings/{value.id}",
        "rescheduled": value.rescheduled,
        "routing_form_submission": value.routing_form_submission,
        "scheduling_method": value.scheduling_method,
        "status": value.status,
        "text_reminder_number": value.text_reminder_number,
        "timezone": value.timezone,
        "tracking": {name: tracking.get(name) for name in TRACKING},
        "updated_at": stamp(value.updated_at),
        "uri": value.uri,
    }
    return body


def invitee_payload(value: SimulatedInvitee, event: Json, *, omit_no_show: bool = False) -> bytes:
    """Return the encoded payload of an invitee event; `omit_no_show` leaves `no_show` out instead of sending null."""
    body = invitee(value) | {"scheduled_event": event}
    if omit_no_show:
        del body["no_show"]
    return encode(dict(sorted(body.items())))


def submission(value: SimulatedSubmission) -> Json:
    """Return a routing form submission. The submitter's URI is on calendly.com, as in the official example."""
    questions = [
        {"question_uuid": ident, "question": question, "answer": answer} for ident, question, answer in value.answers
    ]
    submitter = value.invitee.replace("https://api.", "https://") if value.invitee else None
    return {
        "created_at": stamp(value.created_at),
        "questions_and_answers": questions,
        "result": value.result,
        "routing_form": uri("routing_forms", value.form),
        "submitter": submitter,
        "submitter_type": "Invitee" if submitter else None,
        "tracking": dict.fromkeys(TRACKING),
        "updated_at": stamp(value.created_at),
        "uri": value.uri,
    }


def subscription(value: SimulatedSubscription) -> Json:
    """Return a webhook subscription, without its signing key, which no answer of Calendly holds."""
    return {
        "uri": value.uri,
        "callback_url": value.url,
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.updated_at),
        "retry_started_at": stamp(value.retry_started_at) if value.retry_started_at else None,
        "state": value.state,
        "events": list(value.events),
        "scope": value.scope,
        "organization": uri("organizations", value.organization),
        "user": uri("users", value.user) if value.user else None,
        "group": uri("groups", value.group) if value.group else None,
        "creator": uri("users", value.creator),
    }


def user(value: SimulatedUser) -> Json:
    """Return a user."""
    return {
        "uri": uri("users", value.id),
        "name": value.name,
        "slug": value.slug,
        "email": value.email,
        "scheduling_url": f"https://calendly.com/{value.slug}",
        "timezone": value.timezone,
        "avatar_url": None,
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
        "current_organization": uri("organizations", value.organization),
        "resource_type": "User",
        "locale": "en",
    }


def organization(value: SimulatedOrganization) -> Json:
    """Return an organization."""
    return {
        "uri": uri("organizations", value.id),
        "name": value.name,
        "slug": value.slug,
        "plan": value.plan,
        "stage": "paid" if value.pays else "free",
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
        "resource_type": "Organization",
    }


def membership(value: SimulatedUser) -> Json:
    """Return a user's membership of their organization."""
    keys = ("uri", "name", "slug", "email", "scheduling_url", "timezone", "avatar_url", "created_at", "updated_at")
    shown = user(value)
    return {
        "uri": uri("organization_memberships", value.membership),
        "role": value.role,
        "user": {key: shown[key] for key in keys},
        "organization": uri("organizations", value.organization),
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
    }


def routing_form(value: SimulatedRoutingForm) -> Json:
    """Return a routing form."""
    return {
        "uri": uri("routing_forms", value.id),
        "name": value.name,
        "status": "published",
        "questions": [],
        "organization": uri("organizations", value.organization),
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
    }


def group(value: SimulatedGroup) -> Json:
    """Return a group."""
    return {
        "uri": uri("groups", value.id),
        "name": value.name,
        "organization": uri("organizations", value.organization),
        "member_count": len(value.members),
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
    }


def event_type(value: SimulatedEventType, owner: SimulatedUser) -> Json:
    """Return an event type. Its location has `kind` instead of `type`, and `zoom_conference` for Zoom."""
    kind = "zoom_conference" if value.location == "zoom" else value.location
    return {
        "uri": uri("event_types", value.id),
        "name": value.name,
        "active": value.active,
        "slug": value.slug,
        "scheduling_url": f"https://calendly.com/{owner.slug}/{value.slug}",
        "duration": value.minutes,
        "duration_options": None,
        "kind": "group" if value.limit > 1 else "solo",
        "kind_description": "Group" if value.limit > 1 else "One-on-One",
        "pooling_type": None,
        "type": "StandardEventType",
        "color": "#0069ff",
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
        "internal_note": None,
        "description_plain": None,
        "description_html": None,
        "profile": {"type": "User", "name": owner.name, "owner": uri("users", owner.id)},
        "secret": False,
        "booking_method": "instant",
        "custom_questions": [],
        "deleted_at": None,
        "admin_managed": False,
        "locations": [{"kind": kind}],
        "position": 0,
        "locale": "en",
        "is_paid": False,
    }
