"""`slotwire simulate`: run a simulated Calendly on this machine, and make things happen there.

`serve` runs it; the other commands call a running one. They never call the real Calendly.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from slotwire.ingest.cli import simulate_access, simulate_faults
from slotwire.ingest.cli.simulator_calls import AsJson, Url, connected, seconds_in, show, warn_unless_followed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run a simulated Calendly on this machine, and make things happen there.",
)

Invitee = Annotated[
    str | None, typer.Argument(help="Id or URI; if left out, the newest active one.", show_default=False)
]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for the first attempt of each delivery.")]
DEFAULT_WAIT = 5.0


@app.command()
def serve(  # noqa: PLR0913 -- the options of a server
    *,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8090,
    state_file: Annotated[
        Path | None, typer.Option(help="File for the state; without one, nothing survives a restart.")
    ] = None,
    clock_file: Annotated[
        Path | None, typer.Option(help="File to show the clock in, for SLOTWIRE_LOCAL__CLOCK_FILE of other processes.")
    ] = None,
    seed: Annotated[str, typer.Option(help="All people, ids, tokens and choices follow from it.")] = "slotwire",
    organizations: Annotated[int, typer.Option(help="How many organizations it has.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Maximum number of deliveries in flight.")] = 64,
    first_retry: Annotated[float, typer.Option(help="Seconds to the first retry; each later one waits longer.")] = 1.0,
    retry_factor: Annotated[float, typer.Option(help="How much longer each retry waits than the one before.")] = 2.0,
    max_retry: Annotated[float, typer.Option(help="The longest wait between retries, in seconds.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Run the simulator until interrupted."""
    import asyncio

    from slotwire.ingest.errors import SlotwireError
    from slotwire.ingest.foundation.lifecycle import run
    from slotwire.ingest.simulator.app import Options, simulator
    from slotwire.ingest.simulator.sender import DeliveryPolicy

    try:
        policy = DeliveryPolicy(concurrency, first_retry, retry_factor, max_retry)
    except ValueError as error:
        raise SlotwireError(str(error), remedy="See `slotwire simulate serve --help`.") from None
    options = Options(port, state_file, seed, organizations, policy=policy, clock_file=clock_file)

    async def main(stop: asyncio.Event) -> None:
        async with simulator(options) as running:
            _announce(running.url, running.organization, running.owner_token, as_json=as_json)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([stopped, running.sending], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if running.sending.done():
                running.sending.result()

    run(main)


@app.command()
def book(  # noqa: PLR0913 -- the parts of a booking
    *,
    name: Annotated[str | None, typer.Option(help="The invitee's name; invented if left out.")] = None,
    email: Annotated[str | None, typer.Option(help="The invitee's mail address.")] = None,
    start: Annotated[str | None, typer.Option(help="For example 2026-12-24T15:00:00Z.")] = None,
    location: Annotated[
        str | None, typer.Option(help="zoom, google_conference, physical, outbound_call, none …")
    ] = None,
    event_type: Annotated[str | None, typer.Option(help="Id or URI.")] = None,
    event: Annotated[str | None, typer.Option(help="A group event to join: id or URI.")] = None,
    organization: Annotated[str | None, typer.Option(help="Id or URI; if left out, the first one.")] = None,
    places: Annotated[int, typer.Option(help="Number of invitees; above 1, a group event.")] = 1,
    wait: Wait = DEFAULT_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Book a meeting, or places in a group event."""
    wish = {"name": name, "email": email, "start": start, "location": location, "event_type": event_type}
    _act(url, "book", as_json, **wish, event=event, organization=organization, places=places, wait_seconds=wait)


@app.command()
def cancel(
    invitee: Invitee = None,
    by: Annotated[str, typer.Option(help="invitee or host.")] = "invitee",
    reason: Annotated[str, typer.Option(help="The reason; may be empty.")] = "",
    wait: Wait = DEFAULT_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a booking."""
    _act(url, "cancel", as_json, invitee=invitee, by=by, reason=reason, wait_seconds=wait)


@app.command()
def reschedule(
    invitee: Invitee = None,
    start: Annotated[str | None, typer.Option(help="The new start; invented if left out.")] = None,
    order: Annotated[str, typer.Option(help="canceled-first, created-first, random or together.")] = "random",
    delay: Annotated[float, typer.Option(help="Seconds of the simulator's clock between the two halves.")] = 0.0,
    wait: Wait = DEFAULT_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Move a booking: two deliveries, in the order you name."""
    _act(url, "reschedule", as_json, invitee=invitee, start=start, order=order, delay_seconds=delay, wait_seconds=wait)


@app.command("no-show")
def no_show(invitee: Invitee = None, wait: Wait = DEFAULT_WAIT, url: Url = None, as_json: AsJson = False) -> None:
    """Mark an invitee as a no-show."""
    _act(url, "no-show", as_json, invitee=invitee, wait_seconds=wait)


@app.command("edit-event")
def edit_event(
    event: Annotated[str, typer.Argument(help="The scheduled event's id or URI.")],
    host: Annotated[str | None, typer.Option(help="Id or URI of the user who hosts it from now on.")] = None,
    start: Annotated[str | None, typer.Option(help="For example 2026-12-24T15:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="When it ends; without it, it lasts as long as before.")] = None,
    guest: Annotated[list[str] | None, typer.Option(help="Of all its guests from now on; may be repeated.")] = None,
    place: Annotated[str | None, typer.Option(help="A place to meet in person.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Edit a scheduled event as in a calendar: Calendly sends no webhook about it."""
    with connected(url) as client:
        done = client.post("edit-event", event=event, host=host, start=start, end=end, guests=guest, place=place)
    show(done if as_json else f"event        {done['event']}\nno webhook tells of it")


@app.command("clear-no-show")
def clear_no_show(
    invitee: Invitee = None,
    absent: Annotated[
        bool | None,
        typer.Option("--absent/--null", help="Leave no_show out of the payload, or send null; if left out, drawn."),
    ] = None,
    wait: Wait = DEFAULT_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a no-show mark."""
    _act(url, "clear-no-show", as_json, invitee=invitee, absent=absent, wait_seconds=wait)


@app.command("routing-form")
def routing_form(
    invitee: Annotated[str | None, typer.Option(help="The invitee of the booking it led to, if any.")] = None,
    organization: Annotated[str | None, typer.Option(help="Id or URI; if left out, the first one.")] = None,
    wait: Wait = DEFAULT_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a routing form."""
    _act(url, "routing-form", as_json, invitee=invitee, organization=organization, wait_seconds=wait)


@app.command()
def story(
    count: Annotated[int | None, typer.Option(help="How many bookings to make; endless if left out.")] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two steps.")] = 2.0,
    seed: Annotated[str, typer.Option(help="All choices follow from it.")] = "story",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make, move and cancel bookings step by step, until interrupted."""
    with connected(url) as client:
        job = client.post("story", count=count, interval_seconds=interval, seed=seed)
        shown = 0
        with suppress(KeyboardInterrupt):
            while True:
                for number, line in enumerate(job["lines"], start=job["first_line"]):
                    if number > shown:
                        show({"step": number, "line": line} if as_json else line)
                        shown = number
                if job["finished"]:
                    return
                job = client.get(f"jobs/{job['id']}", wait_seconds=1)
        client.delete(f"jobs/{job['id']}")


@app.command()
def load(  # noqa: PLR0913 -- the parts of a load
    count: Annotated[int, typer.Argument(help="Deliveries to send.")],
    *,
    rate: Annotated[float | None, typer.Option(help="Deliveries per second; as fast as possible if left out.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Maximum number in flight; if left out, that of the server.")
    ] = None,
    seed: Annotated[str, typer.Option(help="All choices follow from it.")] = "load",
    mix: Annotated[list[str] | None, typer.Option(help="Weights, for example --mix kept=3 --mix canceled=1.")] = None,
    order: Annotated[str, typer.Option(help="Order of the two halves of a reschedule, as in `reschedule`.")] = "random",
    race: Annotated[bool, typer.Option("--race", help="Let deliveries of one booking overtake each other.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the end; then it reports what is still pending.")
    ] = 600.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send many deliveries and report. Exits with 1 if some were not acknowledged."""
    with connected(url) as client:
        report = client.post(
            "load",
            count=count,
            rate=rate,
            concurrency=concurrency,
            seed=seed,
            mix=_weights(mix),
            order=order,
            ordered=not race,
            timeout_seconds=timeout,
        )
    show(report if as_json else _load_in_words(report))
    if report["pending"] or report["abandoned"]:
        raise typer.Exit(1)


@app.command()
def send(
    body: Annotated[typer.FileText, typer.Argument(help="A file with the body, or - for the standard input.")],
    subscription: Annotated[str | None, typer.Option(help="Send to this subscription, signed with its key.")] = None,
    to: Annotated[str | None, typer.Option(help="Send to this loopback address instead.")] = None,
    signing: Annotated[str, typer.Option(help="right, wrong or none.")] = "right",
    signing_key: Annotated[str | None, typer.Option(help="Sign with this key.", show_default=False)] = None,
    age: Annotated[int, typer.Option(help="Age of the signature in seconds; may be negative.")] = 0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send any body once, without retries or records."""
    with connected(url) as client:
        answer = client.post(
            "send",
            subscription=subscription,
            url=to,
            body=body.read(),
            signing=signing,
            signing_key=signing_key,
            age_seconds=age,
        )
    show(answer if as_json else f"{answer['status'] or answer['error']} in {answer['seconds'] * 1000:.1f} ms")


@app.command()
def clock(
    advance: Annotated[str | None, typer.Option(help="For example 90, 90s, 15m, 24h or 2d.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the simulator's clock, or move it forward; retries that are due then are sent."""
    with connected(url) as client:
        now = client.post("clock", advance_seconds=seconds_in(advance)) if advance else client.get("clock")
    show(now if as_json else f"{now['now']} ({now['offset_seconds']:g} s ahead)")
    warn_unless_followed(now)


@app.command()
def deliveries(
    state: Annotated[str | None, typer.Option(help="pending, acknowledged, abandoned or dropped.")] = None,
    event: Annotated[str | None, typer.Option(help="For example invitee.created.")] = None,
    bodies: Annotated[bool, typer.Option("--bodies", help="Show the bodies too.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List sent and pending deliveries, with every attempt."""
    with connected(url) as client:
        wanted = {name: value for name, value in (("state", state), ("event", event)) if value}
        after: str | None = "m0"
        while after:
            page = client.get("deliveries", **wanted, after=after, count=1000, bodies=str(bodies).lower())
            for item in page["items"]:
                show(item if as_json else _delivery_in_words(item))
            after = page["next_cursor"]
        if not as_json:
            counts = client.get("ledger")
            show(" · ".join(f"{count} {state}" for state, count in counts["states"].items()))


for verb in (
    simulate_faults.faults,
    simulate_access.world,
    simulate_access.token,
    simulate_access.token_state,
    simulate_access.user,
    simulate_access.plan,
    simulate_access.calls,
    simulate_access.oauth,
):
    app.command()(verb)


def _act(url: str | None, path: str, as_json: bool, **body: object) -> None:
    with connected(url) as client:
        done = client.post(path, **body)
    if as_json:
        show(done)
        return
    for name in ("event", "no_show", "submission"):
        if done[name]:
            show(f"{name.replace('_', '-'):12} {done[name]}")
    for invitee in done["invitees"]:
        show(f"invitee      {invitee}")
    for item in done["deliveries"]:
        show(_delivery_in_words(item))
    if not done["deliveries"]:
        show("nothing was sent: there is no subscription to this event")


def _delivery_in_words(item: dict[str, Any]) -> str:
    tried = ", ".join(
        f"{each['status'] or each['error']} in {each['seconds'] * 1000:.0f} ms" for each in item["attempts"]
    )
    head = f"{item['id']:>7}  {item['event']:34} {item['state']:13} {tried or 'not tried yet'}"
    return f"{head}\n{item['body']}" if "body" in item else head


def _load_in_words(report: dict[str, Any]) -> str:
    sent = f"{report['acknowledged']} of {report['messages']} acknowledged in {report['seconds']:g} s"
    lines = [
        f"{sent}, {report['per_second']:g} a second, {report['attempts']} attempts (seed {report['seed']})",
        f"answer ms: {_spread(report['answer_ms'])}",
        f"to acknowledgement ms: {_spread(report['total_ms'])}",
    ]
    lines += [f"{name}: {report[name]}" for name in ("pending", "abandoned", "dropped") if report[name]]
    if report["failures"]:
        lines.append(f"failed attempts: {report['failures']}")
    return "\n".join(lines)


def _spread(found: dict[str, float]) -> str:
    return ", ".join(f"{at} {milliseconds:g}" for at, milliseconds in found.items())


def _weights(mix: list[str] | None) -> dict[str, int] | None:
    if not mix:
        return None
    try:
        return {name: int(weight) for name, _, weight in (each.partition("=") for each in mix)}
    except ValueError:
        raise typer.BadParameter("write --mix NAME=WEIGHT with a whole number") from None


def _announce(url: str, organization: str, token: str, *, as_json: bool) -> None:
    if as_json:
        show({"ready": True, "simulator_url": url, "organization": organization, "simulator_token": token})
        return
    show(
        f"The simulated Calendly listens on {url}\norganization {organization}\ntoken        {token}\nCtrl-C stops it."
    )
