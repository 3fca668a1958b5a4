"""`/contacts` with their custom fields, `/contact_lists`, `/notes`: each user's own.

Source: docs/reference/calendly.md, "REST"; for answers that it does not show "Simulator assumptions".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.fields import fields_of, list_in, text_in
from slotwire.ingest.simulator.gate import Caller, RestGate, json_answer, resource
from slotwire.ingest.simulator.model import Json, uri
from slotwire.ingest.simulator.paging import choice_of, ident_in, page_of_list
from slotwire.ingest.simulator.problems import SimulatedRefusal, invalid, not_found
from slotwire.ingest.simulator.telling import tell

MAX_LISTS = 25
MAX_MEMBERS = 500
MAX_NOTE = 10_000
MAX_ADDRESSES = 10
FIELD_TYPES = ("text", "number", "currency", "tags", "date", "single_select")
_TEXTS = ("timezone", "job_title", "company", "country", "state", "city", "linkedin")
_CONTACT = ("name", "emails", "phone_numbers", "custom_fields", *_TEXTS)
_PARTLY = ("name", "job_title", "company", "city")
_NOTES = ("contact", "count", "page_token")


class ContactCalls:
    """The calls about contacts. What a user keeps, nobody else sees."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shelf = engine.bookings.shelf

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        read, write = "contacts:read", "contacts:write"
        fields, lists = "/contacts/custom_field_definitions", "/contact_lists"
        return [
            web.get(fields, gate.guard(read, self.definitions)),
            web.post(fields, gate.guard(write, self.define)),
            web.get(f"{fields}/{{uuid}}", gate.guard(read, self._reader("contacts/custom_field_definitions"))),
            web.get("/contacts", gate.guard(read, self.contacts)),
            web.post("/contacts", gate.guard(write, self.create)),
            web.get("/contacts/{uuid}", gate.guard(read, self.contact)),
            web.patch("/contacts/{uuid}", gate.guard(write, self.change)),
            web.delete("/contacts/{uuid}", gate.guard(write, self.delete)),
            web.get(lists, gate.guard(read, self.lists)),
            web.post(lists, gate.guard(write, self.make_list)),
            web.get(f"{lists}/{{uuid}}", gate.guard(read, self._reader("contact_lists"))),
            web.patch(f"{lists}/{{uuid}}", gate.guard(write, self.rename_list)),
            web.post(f"{lists}/{{uuid}}/memberships", gate.guard(write, self.put_on)),
            web.post(f"{lists}/{{uuid}}/memberships/removal", gate.guard(write, self.take_off)),
            web.get("/notes", gate.guard(read, self.notes)),
            web.post("/notes", gate.guard(write, self.write_note)),
            web.get("/notes/{uuid}", gate.guard(read, self._reader("notes"))),
        ]

    async def contacts(self, request: web.Request, caller: Caller) -> web.Response:
        """List contacts that fit all filters."""
        asked = request.query
        found = [each for each in self._shelf.every("contacts", caller.user.id) if _fits(each, asked)]
        if "contact_list" in asked:
            ident = ident_in(asked["contact_list"], "contact_list", "contact_lists")
            members = self._members(self._own("contact_lists", ident, caller))
            found = [each for each in found if each["uri"] in members]
        sort = "updated_at" if asked.get("sort", "").startswith("updated_at") else "created_at"
        found.sort(key=lambda each: (str(each[sort]), str(each["uri"])))
        return page_of_list(request, found, lambda each: _shown(each, request), sort=sort)

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Make a contact, and tell subscriptions."""
        body = await fields_of(request, _CONTACT, needs=("name", "emails"))
        contact = self._made("contacts", caller) | _values(body)
        contact["app_url"] = f"https://calendly.com/app/contacts/{str(contact['uri']).rpartition('/')[2]}"
        contact["custom_fields"] = self._custom(body, [], caller)
        self._refuse_taken(contact, caller)
        return resource(self._kept("contact.created", contact, caller), 201)

    async def contact(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a contact."""
        return resource(_shown(self._own("contacts", request.match_info["uuid"], caller), request))

    async def change(self, request: web.Request, caller: Caller) -> web.Response:
        """Change a contact: addresses are replaced, custom fields merged."""
        body = await fields_of(request, _CONTACT)
        if not body:
            raise invalid(("body", "must have at least one field"))
        contact = self._own("contacts", request.match_info["uuid"], caller)
        held = contact["custom_fields"]
        changed = contact | {name: value for name, value in _values(body).items() if name in body}
        changed["custom_fields"] = self._custom(body, held if isinstance(held, list) else [], caller)
        changed["updated_at"] = stamp(self._engine.clock.now())
        self._refuse_taken(changed, caller)
        return resource(self._kept("contact.updated", changed, caller))

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a contact: it leaves its lists, too."""
        contact = self._own("contacts", request.match_info["uuid"], caller)
        self._shelf.remove("contacts", request.match_info["uuid"])
        for each in self._shelf.every("contact_lists", caller.user.id):
            self._save_list(each, [member for member in self._members(each) if member != contact["uri"]], caller)
        contact["deleted_at"] = stamp(self._engine.clock.now())
        self._tell("contact.deleted", contact, caller)
        return web.Response(status=204)

    async def definitions(self, request: web.Request, caller: Caller) -> web.Response:
        """List the fields that contacts have besides the usual ones, all at once."""
        del request
        kind = "contacts/custom_field_definitions"
        return json_answer({"collection": self._shelf.every(kind, caller.user.id)})

    async def define(self, request: web.Request, caller: Caller) -> web.Response:
        """Define such a field."""
        body = await fields_of(request, ("label", "field_type", "currency", "options"), needs=("label", "field_type"))
        kind, label = "contacts/custom_field_definitions", text_in(body, "label")
        if body["field_type"] not in FIELD_TYPES:
            raise invalid(("field_type", f"must be one of: {', '.join(FIELD_TYPES)}"))
        needed = {"currency": "currency", "single_select": "options"}.get(str(body["field_type"]))
        if needed and not body.get(needed):
            raise invalid((needed, "is missing"))
        if any(each["label"] == label for each in self._shelf.every(kind, caller.user.id)):
            raise _taken("label")
        made = self._made(kind, caller)
        options = [
            {"uuid": Draws(made["uri"], number).uuid(), "label": each.get("label"), "color": None}
            for number, each in enumerate(list_in(body, "options", MAX_MEMBERS))
            if isinstance(each, dict)
        ]
        made |= {"label": label, "field_type": body["field_type"], "options": options, "currency": body.get("currency")}
        return resource(self._store(kind, made, caller), 201)

    async def lists(self, request: web.Request, caller: Caller) -> web.Response:
        """List a user's lists, all at once."""
        kind = choice_of(request, "type", ("static_list", "dynamic_view"))
        found = [each for each in self._shelf.every("contact_lists", caller.user.id) if kind in {None, each["type"]}]
        pages: Json = {"count": len(found), "next_page": None, "previous_page": None}
        pages |= {"next_page_token": None, "previous_page_token": None}
        return json_answer({"collection": [_list(each) for each in found], "pagination": pages})

    async def make_list(self, request: web.Request, caller: Caller) -> web.Response:
        """Make a list, with contacts if some are given."""
        body = await fields_of(request, ("name", "contacts"), needs=("name",))
        held = self._shelf.every("contact_lists", caller.user.id)
        name = self._free_name(body, held)
        if len(held) >= MAX_LISTS:
            raise SimulatedRefusal(403, "Permission Denied", f"A user has at most {MAX_LISTS} lists.")
        made = self._made("contact_lists", caller) | {"name": name, "type": "static_list", "members": []}
        result = self._join(made, body, caller)
        return resource(_list(made) | ({"membership_result": result} if "contacts" in body else {}), 201)

    async def rename_list(self, request: web.Request, caller: Caller) -> web.Response:
        """Change a list's name."""
        body = await fields_of(request, ("name",), needs=("name",))
        found = self._own("contact_lists", request.match_info["uuid"], caller)
        others = [each for each in self._shelf.every("contact_lists", caller.user.id) if each["uri"] != found["uri"]]
        found["name"] = self._free_name(body, others)
        return resource(_list(self._save_list(found, self._members(found), caller)))

    async def put_on(self, request: web.Request, caller: Caller) -> web.Response:
        """Put contacts on a list; who is on it stays."""
        body = await fields_of(request, ("contacts",), needs=("contacts",))
        found = self._own("contact_lists", request.match_info["uuid"], caller)
        return resource(self._join(found, body, caller))

    async def take_off(self, request: web.Request, caller: Caller) -> web.Response:
        """Take contacts off a list."""
        body = await fields_of(request, ("contacts",), needs=("contacts",))
        found = self._own("contact_lists", request.match_info["uuid"], caller)
        named, members = list_in(body, "contacts", MAX_MEMBERS), self._members(found)
        self._save_list(found, [each for each in members if each not in named], caller)
        gone = sum(1 for each in members if each in named)
        return resource({"removed": gone, "invalid": len(named) - gone})

    async def notes(self, request: web.Request, caller: Caller) -> web.Response:
        """List a user's notes about some contacts, the last changed first."""
        if unknown := [name for name in request.query if name not in _NOTES]:
            raise invalid(*((name, "is unknown") for name in unknown))
        named = request.query.get("contact", "").split(",")
        if not 1 <= len(list(filter(None, named))) <= MAX_ADDRESSES:
            raise invalid(("contact", f"must name 1 to {MAX_ADDRESSES} contacts"))
        found = [each for each in self._shelf.every("notes", caller.user.id) if each["contact"] in named]
        return page_of_list(request, found[::-1], lambda each: each)

    async def write_note(self, request: web.Request, caller: Caller) -> web.Response:
        """Write a note about a contact."""
        body = await fields_of(request, ("contact", "title", "body", "remind_at"), needs=("contact",))
        self._own("contacts", ident_in(body["contact"], "contact", "contacts"), caller)
        if not body.get("title") and not body.get("body"):
            raise invalid(("title", "or body is needed"))
        for name, most in (("title", 255), ("body", MAX_NOTE)):
            if body.get(name) is not None:
                text_in(body, name, most)
        note = self._made("notes", caller) | {
            name: body.get(name) for name in ("contact", "title", "body", "remind_at")
        }
        return resource(self._store("notes", note, caller), 201)

    def _reader(self, kind: str) -> Callable[[web.Request, Caller], Awaitable[web.Response]]:
        async def read(request: web.Request, caller: Caller) -> web.Response:
            return resource(_list(self._own(kind, request.match_info["uuid"], caller)))

        return read

    def _own(self, kind: str, ident: str, caller: Caller) -> Json:
        found = self._shelf.get(kind, ident, caller.user.id)
        if found is None:
            raise not_found()
        return found

    def _made(self, kind: str, caller: Caller) -> Json:
        ident = Draws(self._engine.seed, kind, caller.user.id, self._engine.bookings.next_number(kind)).uuid()
        now = stamp(self._engine.clock.now())
        return {"uri": uri(kind, ident), "created_at": now, "updated_at": now}

    def _store(self, kind: str, document: Json, caller: Caller) -> Json:
        self._shelf.put(kind, str(document["uri"]).rpartition("/")[2], caller.user.id, document)
        self._engine.commit()
        return document

    def _kept(self, event: str, contact: Json, caller: Caller) -> Json:
        self._store("contacts", contact, caller)
        self._tell(event, contact, caller)
        return contact

    def _tell(self, event: str, contact: Json, caller: Caller) -> None:
        payload = payloads.encode({name: value for name, value in contact.items() if name != "app_url"})
        tell(self._engine, event, str(contact["uri"]), payload, caller.user)

    def _refuse_taken(self, contact: Json, caller: Caller) -> None:
        mine = _addresses(contact)
        for each in self._shelf.every("contacts", caller.user.id):
            if each["uri"] != contact["uri"] and mine & _addresses(each):
                raise _taken("emails")

    def _custom(self, body: Json, held: list[object], caller: Caller) -> list[object]:
        """Merge custom fields by their uuids; one that is unknown refuses all of them."""
        known = {
            str(each["uri"]).rpartition("/")[2]
            for each in self._shelf.every("contacts/custom_field_definitions", caller.user.id)
        }
        merged = {each["uuid"]: each for each in held if isinstance(each, dict)}
        for each in list_in(body, "custom_fields", MAX_MEMBERS):
            if not isinstance(each, dict) or each.get("uuid") not in known or "value" not in each:
                raise invalid(("custom_fields", "names an unknown field"))
            merged[each["uuid"]] = {"uuid": each["uuid"], "value": each["value"]}
        return list(merged.values())

    def _free_name(self, body: Json, held: list[Json]) -> str:
        name = text_in(body, "name")
        if any(str(each["name"]).strip().casefold() == name.strip().casefold() for each in held):
            raise _taken("name")
        return name

    def _join(self, found: Json, body: Json, caller: Caller) -> Json:
        members, known = self._members(found), {each["uri"] for each in self._shelf.every("contacts", caller.user.id)}
        named = list_in(body, "contacts", MAX_MEMBERS)
        added = [str(each) for each in named if each in known and each not in members]
        self._save_list(found, [*members, *added], caller)
        return {"added": len(added), "invalid": sum(1 for each in named if each not in known)}

    def _save_list(self, found: Json, members: list[str], caller: Caller) -> Json:
        changed = found | {"members": members, "updated_at": stamp(self._engine.clock.now())}
        return self._store("contact_lists", changed, caller)

    @staticmethod
    def _members(found: Json) -> list[str]:
        members = found["members"]
        return [str(each) for each in members] if isinstance(members, list) else []


def _values(body: Json) -> Json:
    """Check what a contact is made of, and return it with null for what is missing."""
    if "name" in body:
        text_in(body, "name")
    if "emails" in body:
        emails = list_in(body, "emails", MAX_ADDRESSES)
        given = [each for each in emails if isinstance(each, dict) and "@" in str(each.get("email", ""))]
        if len(given) != len(emails) or sum(bool(each.get("is_primary")) for each in given) != 1:
            raise invalid(("emails", "must be addresses, exactly one of them primary"))
    phones = list_in(body, "phone_numbers", MAX_ADDRESSES)
    return {
        "name": body.get("name"),
        "emails": body.get("emails", []),
        "phone_numbers": phones,
        **{name: body.get(name) for name in _TEXTS},
    }


def _addresses(contact: Json) -> set[str]:
    emails = contact["emails"]
    return {str(each.get("email")).casefold() for each in emails} if isinstance(emails, list) else set()


def _fits(contact: Json, asked: Mapping[str, str]) -> bool:
    for name in (*_TEXTS, "name", "email", "phone_number"):
        wanted = [each.casefold() for each in asked.get(name, "").split(",") if each]
        if not wanted:
            continue
        if name == "email":
            held = list(_addresses(contact))
        elif name == "phone_number":
            phones = contact["phone_numbers"]
            held = [str(each.get("phone_number")) for each in phones] if isinstance(phones, list) else []
        else:
            held = [str(contact[name] or "").casefold()]
        if not any(each in have if name in _PARTLY else each == have for each in wanted for have in held):
            return False
    return True


def _shown(contact: Json, request: web.Request) -> Json:
    left_out = "custom_fields" if request.query.get("exclude") == "custom_fields" else None
    return {name: value for name, value in contact.items() if name != left_out}


def _list(found: Json) -> Json:
    """Show a list with the number of its contacts; other documents are shown as they are."""
    members = found.get("members")
    if not isinstance(members, list):
        return found
    return {name: value for name, value in found.items() if name != "members"} | {"contact_count": len(members)}


def _taken(name: str) -> SimulatedRefusal:
    return SimulatedRefusal(409, "Already Exists", f"A resource with this {name} already exists")
