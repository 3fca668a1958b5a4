"""The rest of an account: invitations, teams, groups' members, recaps, what is logged.

Source: docs/reference/calendly.md, "REST"; for answers that it does not show "Simulator assumptions".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.bookings import PageOrder, ScheduledEventFilter
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.fields import fields_of, list_in, text_in
from slotwire.ingest.simulator.gate import Caller, Guarded, Handler, RestGate, json_answer, resource
from slotwire.ingest.simulator.model import Json, SimulatedOrganization, uri
from slotwire.ingest.simulator.paging import choice_of, ident_of, page_of_list
from slotwire.ingest.simulator.problems import forbidden, invalid, not_found
from slotwire.ingest.simulator.telling import tell

ENTERPRISE = "enterprise"
MAX_RECAPS = 100
MAX_EMAILS = 500
_RECAP = ("summary_md", "action_items_md", "discussion_md")
_ADMIN = ("organization", "is missing")


class AccountCalls:
    """The calls about an account beside its bookings."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shelf = engine.bookings.shelf

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""

        def guard(scope: str, handler: Guarded, plan: Callable[[SimulatedOrganization], str | None] = _any) -> Handler:
            return gate.guard(scope, self._planned(handler, plan))

        read, write = "organizations:read", "organizations:write"
        invitations, recaps = "/organizations/{org}/invitations", "/meeting_recaps"
        mine, change = "meeting_recaps:read", "meeting_recaps:write"
        return [
            web.delete("/organization_memberships/{uuid}", guard(write, self.remove_member)),
            web.get(invitations, guard(read, self.invitations)),
            web.post(invitations, guard(write, self.invite)),
            web.get(f"{invitations}/{{uuid}}", guard(read, self.invitation)),
            web.delete(f"{invitations}/{{uuid}}", guard(write, self.revoke)),
            web.get("/teams", guard(read, self.teams)),
            web.get("/teams/{uuid}", guard(read, self.team)),
            web.get("/group_relationships", guard("groups:read", self.relationships)),
            web.get("/group_relationships/{uuid}", guard("groups:read", self.relationship)),
            web.get(recaps, guard(mine, self.recaps, _paid)),
            web.get(f"{recaps}/{{uuid}}", guard(mine, self.recap, _paid)),
            web.patch(f"{recaps}/{{uuid}}", guard(change, self.change_recap, _paid)),
            web.delete(f"{recaps}/{{uuid}}", guard(change, self.delete_recap, _paid)),
            web.get(f"{recaps}/{{uuid}}/transcript", guard(mine, self.transcript, _paid)),
            web.get("/activity_log_entries", guard("activity_log:read", self.activity, _enterprise)),
            web.get("/outgoing_communications", guard("outgoing_communications:read", self.messages, _enterprise)),
            web.post(
                "/data_compliance/deletion/invitees", guard("data_compliance:write", self.forget_people, _enterprise)
            ),
            web.post(
                "/data_compliance/deletion/events", guard("data_compliance:write", self.forget_events, _enterprise)
            ),
            web.get("/sample_webhook_data", guard("webhooks:read", self.sample)),
        ]

    async def remove_member(self, request: web.Request, caller: Caller) -> web.Response:
        """Remove a member; the owner stays. What they booked is kept."""
        self._require_admin(caller)
        for each in self._engine.world.members(caller.user.organization):
            if each.membership == request.match_info["uuid"]:
                if each.role == "owner":
                    raise forbidden("The owner of an organization cannot be removed.")
                self._shelf.put("removed_members", each.id, each.organization, {"at": stamp(self._engine.clock.now())})
                self._engine.commit()
                return web.Response(status=204)
        raise not_found()

    async def invitations(self, request: web.Request, caller: Caller) -> web.Response:
        """List an organization's invitations."""
        org = self._organization(request.match_info["org"], caller)
        email, status = (
            request.query.get("email"),
            choice_of(request, "status", ("pending", "accepted", "declined")),
        )
        found = [
            each
            for each in self._shelf.every("invitations", org)
            if email in {None, each["email"]} and status in {None, each["status"]}
        ]
        return page_of_list(request, found, lambda each: each)

    async def invite(self, request: web.Request, caller: Caller) -> web.Response:
        """Invite somebody."""
        org = self._organization(request.match_info["org"], caller)
        email = text_in(await fields_of(request, ("email",), needs=("email",)), "email")
        ident, now = self._ident("invitations"), stamp(self._engine.clock.now())
        made: Json = {
            "uri": f"{uri('organizations', org)}/invitations/{ident}",
            "organization": uri("organizations", org),
            "email": email,
            "status": "pending",
            "created_at": now,
            "updated_at": now,
            "last_sent_at": now,
        }
        return resource(self._store("invitations", ident, org, made), 201)

    async def invitation(self, request: web.Request, caller: Caller) -> web.Response:
        """Return an invitation."""
        org = self._organization(request.match_info["org"], caller)
        return resource(self._found("invitations", request.match_info["uuid"], org))

    async def revoke(self, request: web.Request, caller: Caller) -> web.Response:
        """Take an invitation back."""
        org = self._organization(request.match_info["org"], caller)
        self._found("invitations", request.match_info["uuid"], org)
        self._shelf.remove("invitations", request.match_info["uuid"])
        self._engine.commit()
        return web.Response(status=204)

    async def teams(self, request: web.Request, caller: Caller) -> web.Response:
        """List the organization's teams: one."""
        return page_of_list(request, [self._team(caller)], lambda each: each)

    async def team(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a team."""
        if not str(self._team(caller)["uri"]).endswith(f"/{request.match_info['uuid']}"):
            raise not_found()
        return resource(self._team(caller))

    async def relationships(self, request: web.Request, caller: Caller) -> web.Response:
        """List the places of users in groups."""
        group = ident_of(request, "group", "groups")
        found = [
            each
            for each in self._relationships(caller)
            if group is None or str(_part(each, "group")).endswith(f"/{group}")
        ]
        return page_of_list(request, found, lambda each: each)

    async def relationship(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a user's place in a group."""
        for each in self._relationships(caller):
            if str(each["uri"]).endswith(f"/{request.match_info['uuid']}"):
                return resource(each)
        raise not_found()

    async def recaps(self, request: web.Request, caller: Caller) -> web.Response:
        """List recaps of the caller's meetings."""
        status = choice_of(request, "status", ("available", "processing", "unavailable")) or "available"
        self._make_recaps(caller)
        held = self._shelf.every("meeting_recaps", caller.user.id)
        found = [each for each in held if each["status"] == status and not each.get("deleted")]
        event = request.query.get("event")
        return page_of_list(request, [each for each in found if event in {None, each["event"]}], _recap)

    async def recap(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a recap."""
        return resource(_recap(self._found("meeting_recaps", request.match_info["uuid"], caller.user.id)))

    async def change_recap(self, request: web.Request, caller: Caller) -> web.Response:
        """Change a recap's texts."""
        body = await fields_of(request, _RECAP)
        ident = request.match_info["uuid"]
        changed = self._found("meeting_recaps", ident, caller.user.id) | body
        changed["updated_at"] = stamp(self._engine.clock.now())
        self._store("meeting_recaps", ident, caller.user.id, changed)
        tell(self._engine, "meeting_recap.updated", str(changed["uri"]), payloads.encode(_recap(changed)), caller.user)
        return resource(_recap(changed))

    async def delete_recap(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a recap."""
        ident = request.match_info["uuid"]
        gone = self._found("meeting_recaps", ident, caller.user.id)
        self._store("meeting_recaps", ident, caller.user.id, gone | {"deleted": True})
        tell(self._engine, "meeting_recap.deleted", str(gone["uri"]), payloads.encode(_recap(gone)), caller.user)
        return web.Response(status=204)

    async def transcript(self, request: web.Request, caller: Caller) -> web.Response:
        """Return what was said, as a plain text."""
        found = self._found("meeting_recaps", request.match_info["uuid"], caller.user.id)
        return web.Response(text=str(found["transcript"]))

    async def activity(self, request: web.Request, caller: Caller) -> web.Response:
        """List what happened in the account: nothing."""
        self._require_organization(request, caller)
        return _empty({"last_event_time": None, "total_count": 0, "exceeds_max_total_count": False})

    async def messages(self, request: web.Request, caller: Caller) -> web.Response:
        """List text messages that were sent: none."""
        self._require_organization(request, caller)
        return _empty({})

    async def forget_people(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a request to delete people."""
        self._require_admin(caller)
        body = await fields_of(request, ("emails",), needs=("emails",))
        list_in(body, "emails", MAX_EMAILS)
        return json_answer({}, 202)

    async def forget_events(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a request to delete meetings of a past time."""
        self._require_admin(caller)
        body = await fields_of(request, ("start_time", "end_time"), needs=("start_time", "end_time"))
        try:
            end = datetime.fromisoformat(str(body["end_time"]))
        except ValueError:
            raise invalid(("end_time", "must be a time")) from None
        if end > self._engine.clock.now():
            raise invalid(("end_time", "must be in the past"))
        return json_answer({}, 202)

    async def sample(self, request: web.Request, caller: Caller) -> web.Response:
        """Return an envelope with a made-up payload, bare."""
        self._require_organization(request, caller)
        if not request.query.get("event") or not request.query.get("scope"):
            raise invalid(("event", "and scope are needed"))
        now = stamp(self._engine.clock.now().replace(microsecond=0))
        body: Json = {"event": request.query["event"], "created_at": now, "created_by": uri("users", caller.user.id)}
        return json_answer(body | {"payload": {"uri": uri("sample", "SAMPLE"), "name": "Sample Person"}})

    def _planned(self, handler: Guarded, plan: Callable[[SimulatedOrganization], str | None]) -> Guarded:
        async def planned(request: web.Request, caller: Caller) -> web.Response:
            words = plan(self._engine.world.organizations[caller.user.organization])
            if words is not None:
                raise forbidden(words)
            return await handler(request, caller)

        return planned

    def _organization(self, ident: str, caller: Caller) -> str:
        if ident != caller.user.organization or not caller.administers:
            raise forbidden()
        return ident

    def _require_organization(self, request: web.Request, caller: Caller) -> None:
        ident = ident_of(request, "organization", "organizations")
        if ident is None:
            raise invalid(_ADMIN)
        self._organization(ident, caller)

    def _require_admin(self, caller: Caller) -> None:
        if not caller.administers:
            raise forbidden()

    def _ident(self, kind: str) -> str:
        return Draws(self._engine.seed, kind, self._engine.bookings.next_number(kind)).uuid()

    def _found(self, kind: str, ident: str, owner: str) -> Json:
        found = self._shelf.get(kind, ident, owner)
        if found is None or found.get("deleted"):
            raise not_found()
        return found

    def _store(self, kind: str, ident: str, owner: str, document: Json) -> Json:
        self._shelf.put(kind, ident, owner, document)
        self._engine.commit()
        return document

    def _make_recaps(self, caller: Caller) -> None:
        """Make the recaps of meetings that have ended; one that was deleted does not come back."""
        now = self._engine.clock.now()
        wanted = ScheduledEventFilter(None, (caller.user.id,), status="active", max_start=now)
        for each in self._engine.bookings.events(wanted, PageOrder(MAX_RECAPS, descending=True)):
            ident, at = Draws(self._engine.seed, "recap", each.id).uuid(), stamp(each.end)
            if each.end > now or self._shelf.get("meeting_recaps", ident) is not None:
                continue
            made: Json = {"uri": uri("meeting_recaps", ident), "event": each.uri, "status": "available"}
            made |= {"summary_md": "They agreed.", "action_items_md": None, "discussion_md": None}
            made |= {"transcript": "Ada: Hello.", "created_at": at, "updated_at": at}
            self._store("meeting_recaps", ident, caller.user.id, made)

    def _team(self, caller: Caller) -> Json:
        organization = self._engine.world.organizations[caller.user.organization]
        ident = Draws(self._engine.seed, "team", organization.id).uuid()
        made = stamp(organization.created_at)
        return {
            "uri": uri("teams", ident),
            "name": "Everybody",
            "organization": uri("organizations", organization.id),
            "created_at": made,
            "updated_at": made,
        }

    def _relationships(self, caller: Caller) -> list[Json]:
        found = list[Json]()
        for group in self._engine.world.groups.values():
            if group.organization != caller.user.organization:
                continue
            for user in group.members:
                member = self._engine.world.users[user]
                found.append(
                    {
                        "uri": uri("group_relationships", Draws(self._engine.seed, group.id, user).uuid()),
                        "organization": uri("organizations", group.organization),
                        "group": {"uri": uri("groups", group.id), "name": group.name},
                        "owner": {
                            "type": "OrganizationMembership",
                            "uri": uri("organization_memberships", member.membership),
                        },
                        "role": "member",
                        "created_at": stamp(group.created_at),
                        "updated_at": stamp(group.created_at),
                    }
                )
        return found


def _any(_: SimulatedOrganization) -> str | None:
    return None


def _paid(organization: SimulatedOrganization) -> str | None:
    return None if organization.pays else "Please upgrade to a paid Calendly account."


def _enterprise(organization: SimulatedOrganization) -> str | None:
    return None if organization.plan == ENTERPRISE else "Please upgrade your Calendly account to Enterprise."


def _part(document: Json, name: str) -> object:
    part = document[name]
    return part.get("uri") if isinstance(part, dict) else None


def _recap(document: Json) -> Json:
    return {name: value for name, value in document.items() if name not in {"transcript", "deleted"}}


def _empty(more: Json) -> web.Response:
    pages: Json = {"count": 0, "next_page": None, "previous_page": None}
    pages |= {"next_page_token": None, "previous_page_token": None}
    return json_answer({"collection": [], "pagination": pages, **more})
