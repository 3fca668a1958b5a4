"""The command of `slotwire simulate` for the faults that a running simulator injects."""

from __future__ import annotations

from typing import Annotated

import typer

from slotwire.ingest.cli.simulator_calls import AsJson, Url, connected, show


def faults(  # noqa: PLR0913 -- one option a fault
    *,
    duplicate_rate: Annotated[float | None, typer.Option(help="Share of deliveries that are sent twice.")] = None,
    drop_rate: Annotated[float | None, typer.Option(help="Share of deliveries that are never sent.")] = None,
    lost_answer_rate: Annotated[
        float | None, typer.Option(help="Share of deliveries whose answer is lost, so that they are sent again.")
    ] = None,
    wrong_signature_rate: Annotated[
        float | None, typer.Option(help="Share of attempts with a wrong signature.")
    ] = None,
    delay_seconds: Annotated[float | None, typer.Option(help="Maximum delay of a delivery.")] = None,
    keep_signature: Annotated[
        bool | None, typer.Option("--keep-signature/--sign-again", help="Whether retries keep the first signature.")
    ] = None,
    rate_limit: Annotated[int | None, typer.Option(help="REST requests per user and minute.")] = None,
    rest_error_rate: Annotated[float | None, typer.Option(help="Share of REST calls that fail with an error.")] = None,
    rest_error_status: Annotated[int | None, typer.Option(help="Status of that error, from 500.")] = None,
    rest_lost_answer_rate: Annotated[
        float | None, typer.Option(help="Share of REST calls that are carried out, then answered with it.")
    ] = None,
    rest_unanswered_rate: Annotated[
        float | None, typer.Option(help="Share of REST calls that are carried out and never answered.")
    ] = None,
    rest_limited_rate: Annotated[
        float | None, typer.Option(help="Share of REST calls that are refused with 429.")
    ] = None,
    rest_delay_seconds: Annotated[float | None, typer.Option(help="Seconds that each REST answer takes.")] = None,
    rest_faults: Annotated[
        str | None, typer.Option(help="Which REST calls those hit: all, or writes.", show_default=False)
    ] = None,
    booking_webhook: Annotated[
        str | None,
        typer.Option(
            help="The webhook of a booking by API comes before, with or after the answer.", show_default=False
        ),
    ] = None,
    gives_up_after_meeting: Annotated[
        bool | None, typer.Option(help="No retry later than 24 h after a meeting.")
    ] = None,
    departed_silent: Annotated[bool | None, typer.Option(help="A creator who left gets no deliveries.")] = None,
    token_error_rate: Annotated[float | None, typer.Option(help="The same at the OAuth token endpoint.")] = None,
    token_lost_answer_rate: Annotated[float | None, typer.Option(help="The same for carried out, then 502.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show or change the injected faults. Rates go from 0 to 1."""
    with connected(url) as client:
        found = client.post(
            "faults",
            duplicate_rate=duplicate_rate,
            drop_rate=drop_rate,
            lost_answer_rate=lost_answer_rate,
            wrong_signature_rate=wrong_signature_rate,
            delay_seconds=delay_seconds,
            retries_keep_signature=keep_signature,
            rate_limit=rate_limit,
            rest_error_rate=rest_error_rate,
            rest_error_status=rest_error_status,
            rest_lost_answer_rate=rest_lost_answer_rate,
            rest_unanswered_rate=rest_unanswered_rate,
            rest_limited_rate=rest_limited_rate,
            rest_delay_seconds=rest_delay_seconds,
            rest_faults=rest_faults,
            booking_webhook=booking_webhook,
            gives_up_after_meeting=gives_up_after_meeting,
            departed_silent=departed_silent,
            token_error_rate=token_error_rate,
            token_lost_answer_rate=token_lost_answer_rate,
        )
    show(found if as_json else "\n".join(f"{name:24} {value}" for name, value in found.items()))
