"""Runs in an environment of its own: makes every call of a client that others generated, and prints how each ended.

    python others_client.py URL TOKEN ORGANIZATION EVENT INVITEE FORM SUBMISSION

Times are those of a simulator whose clock is the machine's. Nothing of Slotwire is imported.
"""

from __future__ import annotations

import inspect
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from calendly import Calendly  # type: ignore[import-not-found]  # of the drill's own environment
from calendly.models import shared  # type: ignore[import-not-found]  # of the drill's own environment

API = "https://api.calendly.com"


class Calls:
    """The client, and how its calls ended."""

    def __init__(self, url: str, token: str) -> None:
        security = shared.Security(personal_access_token=f"Bearer {token}")
        self.client = Calendly(security=security, server_url=url)
        self.ended: dict[str, int] = {}

    def method(self, name: str) -> Any:
        """Return one of the client's methods."""
        group, verb = name.split(".")
        return getattr(getattr(self.client, group), verb)

    def model(self, name: str, ending: str) -> Any:
        """Return a class that belongs to what a method takes, by the end of its name."""
        request = next(iter(inspect.signature(self.method(name)).parameters.values())).annotation
        return next(each for key, each in vars(sys.modules[request.__module__]).items() if key.endswith(ending))

    def call(self, name: str, **values: object) -> Any:
        """Make a call, keep its status, and return its document."""
        method = self.method(name)
        takes = list(inspect.signature(method).parameters.values())
        answer = method(takes[0].annotation(**values)) if takes else method()
        self.ended[name] = answer.status_code
        return answer.raw_response.json() if answer.raw_response.content else {}

    def left(self) -> list[str]:
        """Return the client's methods that were not called."""
        groups = [name for name in vars(self.client) if not name.startswith("_")]
        every = [
            f"{group}.{verb}"
            for group in groups
            for verb, _ in inspect.getmembers(getattr(self.client, group), inspect.ismethod)
            if not verb.startswith("_")
        ]
        return sorted(set(every) - set(self.ended))


def last(uri: str) -> str:
    """Return the id at the end of a URI."""
    return uri.rsplit("/", 1)[1]


def people(calls: Calls, organization: str) -> str:
    """Make the calls about people; return the token's user."""
    org, me = last(organization), str(calls.call("users.me")["resource"]["uri"])
    calls.call("users.get", uuid=last(me))
    members = calls.call("organizations.list_memberships", organization=organization)["collection"]
    calls.call("users.get_memberships", uuid=last(members[0]["uri"]))
    calls.call("organizations.delete_memberships", uuid=last(members[-1]["uri"]))
    body = calls.model("organizations.invite_user", "InvitationsRequestBody")(email="a@example.com")
    made = calls.call("organizations.invite_user", uuid=org, request_body=body)
    invitation = last(made["resource"]["uri"])
    calls.call("organizations.list_invitations", uuid=org)
    calls.call("organizations.get_invitations", org_uuid=org, uuid=invitation)
    calls.call("organizations.revoke_invite", org_uuid=org, uuid=invitation)
    return me


def bookings(calls: Calls, organization: str, me: str, event: str, invitee: str) -> None:
    """Make the calls about event types, times and meetings."""
    now = datetime.now(UTC)
    span = {"start_time": (now + timedelta(hours=1)).isoformat(), "end_time": (now + timedelta(days=6)).isoformat()}
    offered = calls.call("event_types.list", user=me)["collection"][0]["uri"]
    calls.call("event_types.get", uuid=last(offered))
    calls.call("event_types.get_available_times", event_type=offered, **span)
    schedule = calls.call("availability.get_availability", user=me)["collection"][0]["uri"]
    calls.call("availability.get", uuid=last(schedule))
    calls.call("availability.get_busy_times", user=me, **span)
    calls.call("scheduled_events.list", organization=organization, user=me)
    calls.call("scheduled_events.get_event_by_uuid", uuid=event)
    calls.call("scheduled_events.get_invitees", uuid=event)
    calls.call("scheduled_events.get_invitees_by_uuid", event_uuid=event, invitee_uuid=invitee)
    marked = calls.call("scheduled_events.create_no_show", invitee=f"{API}/scheduled_events/{event}/invitees/{invitee}")
    mark = last(marked["resource"]["uri"])
    calls.call("scheduled_events.get_no_show", uuid=mark)
    calls.call("scheduled_events.unmark_no_show", uuid=mark)
    body = calls.model("scheduled_events.cancel", "CancellationApplicationJSON")(reason="moved")
    calls.call("scheduled_events.cancel", uuid=event, request_body=body)
    calls.call(
        "scheduling_links.create",
        max_event_count=next(iter(calls.model("scheduling_links.create", "MaxEventCountEnum"))),
        owner=offered,
        owner_type=next(iter(calls.model("scheduling_links.create", "OwnerTypeEnum"))),
    )
    calls.call("shares.create", event_type=offered)


def the_rest(calls: Calls, url: str, organization: str, form: str, submission: str) -> None:
    """Make the calls about forms, logs, deletions and webhooks."""
    now = datetime.now(UTC)
    calls.call("routing_forms.list", organization=organization)
    calls.call("routing_forms.get_by_uuid", uuid=form)
    calls.call("routing_forms.get_submissions", form=f"{API}/routing_forms/{form}")
    calls.call("routing_forms.get_submissions_by_uuid", uuid=submission)
    calls.call("activity_log.list", organization=organization)
    past = {"start_time": now - timedelta(days=9), "end_time": now - timedelta(days=8)}
    calls.call("data_compliance.create_deletion_event", **past)
    calls.call("data_compliance.delete_invitee_data", emails=["a@example.com"])
    events = [next(iter(calls.model("webhooks.create", "EventsEnum")))]
    scope = calls.model("webhooks.create", "ScopeEnum")("organization")
    made = calls.call("webhooks.create", url=f"{url}/nowhere", events=events, organization=organization, scope=scope)
    calls.call(
        "webhooks.list", organization=organization, scope=calls.model("webhooks.list", "ScopeEnum")("organization")
    )
    calls.call("webhooks.get", webhook_uuid=last(made["resource"]["uri"]))
    calls.call("webhooks.delete", webhook_uuid=last(made["resource"]["uri"]))


def main() -> None:
    """Make the calls in an order in which each has something to work on."""
    url, token, organization, event, invitee, form, submission = sys.argv[1:]
    calls = Calls(url, token)
    bookings(calls, organization, people(calls, organization), event, invitee)
    the_rest(calls, url, organization, form, submission)
    sys.stdout.write(json.dumps({"ended": calls.ended, "left": calls.left()}))


if __name__ == "__main__":
    main()
