"""Look at bookings: list them, and draw one's way from the POST to the topic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.tree import Tree

    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.booking_models import BookingItem, Timeline, TimelineEvent
    from slotwire.ingest.operate.models import DeliveryItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Look at bookings: list them, and draw one's way from the POST to the topic.",
)

_WIDEST = 10_000
"""Columns that the picture may need."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command("list")
def list_(
    *,
    organization: Annotated[
        str | None,
        typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
    ] = None,
    state: Annotated[
        Literal["named", "active", "canceled"] | None, typer.Option(help="In one state.", show_default=False)
    ] = None,
    waiting: Annotated[
        bool,
        typer.Option("--waiting", help="Only those that wait for a no-show's mark or the other half of a reschedule."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List bookings by their invitees' names."""
    from slotwire.ingest.cli.acting import act, checked, every_item
    from slotwire.ingest.cli.listing import show as show_items
    from slotwire.ingest.operate.booking_models import BookingQuery
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.roles import COMMAND_LINE

    first = checked(BookingQuery, organization=organization, state=state, waiting=waiting, limit=min(limit, MAX_PAGE))

    async def read(actions: Actions) -> list[BookingItem]:
        return await every_item(partial(actions.bookings.list, COMMAND_LINE), first, limit=limit)

    show_items(
        act("bookings", read),
        {
            "STATE": lambda item: item.state,
            "NO-SHOW": lambda item: "yes" if item.no_show else "-",
            "START": lambda item: item.start_time,
            "WAITS SINCE": lambda item: item.waits_since,
            "ORGANIZATION": lambda item: item.organization,
            "INVITEE": lambda item: item.invitee,
        },
        as_json=as_json,
        nothing="no such bookings",
    )


@app.command()
def show(
    *,
    invitee: Annotated[str, typer.Argument(metavar="URI", help="The invitee's URI at Calendly.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it on one line of JSON.")] = False,
) -> None:
    """Draw one booking's way: what Calendly sent, what was written, what is on the topic, and its line."""
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.operate.booking_models import TimelineQuery
    from slotwire.ingest.operate.roles import COMMAND_LINE

    query = checked(TimelineQuery, invitee=invitee)
    found = act("bookings", lambda actions: actions.bookings.timeline(COMMAND_LINE, query.invitee))
    if as_json:
        typer.echo(json_line(found))
        return
    from rich.console import Console

    console, picture = Console(highlight=False), draw(found)
    if not console.is_terminal:
        # Nothing is cut or broken there: a line of the picture stays a line.
        console.width = max(
            console.width, console.measure(picture, options=console.options.update(width=_WIDEST)).maximum
        )
    console.print(picture)


def draw(found: Timeline) -> Tree:
    """Draw a timeline: each delivery with the events it made below it, in order of arrival; then the line."""
    from rich.text import Text
    from rich.tree import Tree

    from slotwire.ingest.cli.listing import cell

    booking = found.booking
    tree = Tree(Text(booking.invitee, style="bold"))
    for words in _state(booking):
        tree.add(Text(words))
    for delivery in found.deliveries:
        made = [event for event in found.events if event.delivery_id == delivery.id]
        branch = tree.add(Text(_delivery(delivery, found, nothing=not made), style="cyan"))
        for event in made:
            branch.add(_event(event))
    known = {delivery.id for delivery in found.deliveries}
    for event in found.events:
        if event.delivery_id not in known:
            tree.add(_event(event))
    if len(found.line) > 1:
        line = tree.add(Text("line of reschedules, the oldest first"))
        for other in found.line:
            here = "  ◀ this one" if other.invitee == booking.invitee else ""
            line.add(Text(f"{other.state}  {cell(other.start_time)}  {other.invitee}{here}"))
    if not found.complete:
        tree.add(Text("there is more than is shown here"))
    return tree


def _state(booking: BookingItem) -> list[str]:
    from slotwire.ingest.cli.listing import cell

    words = [booking.state, f"revision {booking.revision}"]
    words += ["no-show"] if booking.no_show else []
    words += [f"at Calendly: {booking.provider_status}"] if booking.provider_status else []
    lines = [" · ".join([*words, f"organization {booking.organization}"])]
    if booking.start_time is not None:
        place = [booking.location_type] if booking.location_type else []
        lines.append(" · ".join([f"{cell(booking.start_time)} to {cell(booking.end_time)}", *place, *booking.hosts]))
    if booking.waits_since is not None:
        lines.append(f"waits since {cell(booking.waits_since)} for a no-show's mark, or for the half of a reschedule")
    return lines


def _delivery(delivery: DeliveryItem, found: Timeline, *, nothing: bool) -> str:
    from slotwire.ingest.cli.listing import cell

    age = max(0.0, (delivery.received_at - delivery.signed_at).total_seconds())
    words = f"POST {cell(delivery.received_at)}  {delivery.event_name or '-'}  {delivery.outcome}"
    words += f", signed {age:.0f} s before"
    if nothing:
        of = next((event.sequence for event in found.events if event.id == delivery.event_id), None)
        waits = any(clear.delivery_id == delivery.id and not clear.alone for clear in found.booking.clears)
        words += f", of #{of}" if of is not None else ", waits for its mark" if waits else ""
    return f"{words}  {delivery.id}"


def _event(event: TimelineEvent) -> str:
    words = [f"#{event.sequence}", event.type]
    words += [] if event.revision is None else [f"revision {event.revision}"]
    words += ["inferred"] if event.inferred else []
    where = event.topic or "no topic"
    words.append({"published": f"published to {where}", "waiting": f"not on {where} yet"}.get(event.progress, ""))
    if event.progress == "parked":
        words[-1] = f"parked: {event.parked_reason}"
    return "  ".join([*words, str(event.id)])
