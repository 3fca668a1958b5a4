"""List bookings, and draw the way of one from the POST to the topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, Organization

if TYPE_CHECKING:
    from rich.tree import Tree

    from slotwire.ingest.operate.booking_models import BookingItem, Timeline, TimelineEvent
    from slotwire.ingest.operate.models import DeliveryItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List bookings, and draw the way of one from the POST to the topic.",
)

_WIDEST = 10_000
"""Columns that the drawing may need."""


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    state: Annotated[
        Literal["named", "active", "canceled"] | None, typer.Option(help="Only in this state.", show_default=False)
    ] = None,
    waiting: Annotated[
        bool,
        typer.Option(
            "--waiting", help="Only those that wait for a no-show mark, or for the other half of a reschedule."
        ),
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List bookings, ordered by invitee URI."""
    from slotwire.ingest.operate.booking_models import BookingQuery

    found = list_items(
        "bookings",
        lambda actions, who, query: actions.bookings.list(who, query),
        BookingQuery,
        limit=limit,
        organization=organization,
        state=state,
        waiting=waiting,
    )
    print_items(
        found,
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
    organization: Organization = None,
    as_json: AsOneJson = False,
) -> None:
    """Draw the way of one booking: what Calendly sent, which events it made, what is published, and its chain."""
    from slotwire.ingest.operate.booking_models import TimelineQuery

    query = checked(TimelineQuery, invitee=invitee, organization=organization)
    found = act("bookings", lambda actions, who: actions.bookings.timeline(who, query))
    if as_json:
        typer.echo(json_line(found))
        return
    from rich.console import Console

    console, picture = Console(highlight=False), draw(found)
    if not console.is_terminal:
        # In a pipe or a file no line of the drawing is cut or wrapped.
        console.width = max(
            console.width, console.measure(picture, options=console.options.update(width=_WIDEST)).maximum
        )
    console.print(picture)


def draw(found: Timeline) -> Tree:
    """Draw a timeline: each delivery with the events it made below it, in order of arrival; then the chain."""
    from rich.text import Text
    from rich.tree import Tree

    booking = found.booking
    tree = Tree(Text(cell(booking.invitee), style="bold"))
    for words in _state(booking):
        tree.add(Text(cell(words)))
    for delivery in found.deliveries:
        made = [event for event in found.events if event.delivery_id == delivery.id]
        branch = tree.add(Text(cell(_delivery(delivery, found, nothing=not made)), style="cyan"))
        for event in made:
            branch.add(Text(cell(_event(event))))
    known = {delivery.id for delivery in found.deliveries}
    for event in found.events:
        if event.delivery_id not in known:
            tree.add(Text(cell(_event(event))))
    if len(found.chain) > 1:
        chain = tree.add(Text("chain of reschedules, oldest first"))
        for other in found.chain:
            here = "  ◀ this one" if other.invitee == booking.invitee else ""
            chain.add(Text(f"{other.state}  {cell(other.start_time)}  {cell(other.invitee)}{here}"))
    if not found.complete:
        tree.add(Text("there is more than is shown here"))
    return tree


def _state(booking: BookingItem) -> list[str]:

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
