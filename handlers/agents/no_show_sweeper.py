"""Marks invitees who did not come as no-shows, once their meeting is over, and takes its own marks back.

    slotwire agents run no-show-sweeper

A source of attendance says who came: a file that another system writes, a receiver that is asked, or one of your own:

    from slotwire.handlers.agents.no_show_sweeper import agent

    agent.attendance = Door()

It is asked a quarter of an hour after a meeting's end, and again after two hours and after a day, so what is corrected
within a day is put right. docs/howto/mark-no-shows.md is for whoever runs it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from slotwire.handlers.context import Context
from slotwire.handlers.firings import Moment
from slotwire.handlers.outcome import Done, Outcome, Retry
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.handlers.shipped.attendance import (
    AskedAttendance,
    Attendance,
    AttendedInvitee,
    AttendedMeeting,
    FileAttendance,
    MarkMemory,
    what_follows,
)
from slotwire.ingest.foundation.agent_settings import NoShowSweeperSettings
from slotwire.ingest.foundation.errors import ConfigurationError, RequestRefused

LOOKS = (timedelta(minutes=15), timedelta(hours=2), timedelta(days=1))
"""How long after a meeting's end the source is asked."""


class NoShowSweeper(ShippedAgent[NoShowSweeperSettings]):
    """The agent.

    Attributes:
        attendance: a source of your own, in place of those that settings name.
    """

    attendance: Attendance | None = None
    _files: FileAttendance | None = None

    def source(self, settings: NoShowSweeperSettings, ctx: Context) -> Attendance:
        """Return who knows who came.

        Raises:
            ConfigurationError: no folder is set for files.
        """
        if self.attendance is not None:
            return self.attendance
        if settings.source == "receiver" and settings.url is not None and settings.secret is not None:
            url, secret = settings.url.get_secret_value(), settings.secret.get_secret_value()
            return AskedAttendance(self.outgoing, url, secret, clock=ctx.clock)
        if self.attendance_folder is None:
            raise ConfigurationError(
                "no folder is set for files of attendance",
                remedy="Set SLOTWIRE_AGENTS__ATTENDANCE_FOLDER for the process of the agent.",
            )
        self._files = self._files or FileAttendance(self.attendance_folder)
        return self._files


agent = NoShowSweeper(
    "no-show-sweeper",
    NoShowSweeperSettings,
    retry=RetryPolicy(attempts=12, first_seconds=1, factor=3, longest_seconds=900),  # over about an hour and a half
    # What is given up depends on sources: one organization's must not stop the agent for all others.
    limit=GiveUpLimit(run=100_000, window=1_000, share=1.0),
    timeout_seconds=120,
    concurrency=20,  # many meetings end at the full hour
)


@agent.at(after_end=LOOKS[0], name="first-look")
@agent.at(after_end=LOOKS[1], name="second-look")
@agent.at(after_end=LOOKS[2], name="last-look")
async def look(moment: Moment, ctx: Context) -> Outcome | None:
    """Ask who came, and do what follows, once; what a receipt says is remembered for the next look."""
    settings, chain = await agent.settings(ctx.organization), await ctx.booking()
    if settings is None or chain is None:
        return None
    key = ctx.event.key.partition(" ")[2]  # of the chain: a firing's begins with the schedule
    state = await ctx.chains.state(ctx.organization, key, None)
    attended = await agent.source(settings, ctx).attended(*await _asked(moment, ctx))
    verb = what_follows(attended, no_show=chain.booking.no_show, memory=state.get(moment.invitee))
    if verb is None:
        return None
    if settings.dry_run:
        return agent.would(ctx, verb)
    try:
        action = await ctx.calendly.act(verb)
    except RequestRefused as error:
        if error.code != "no_own_mark":
            raise
        action = {"state": "refused", "reason": error.code}  # the mark is somebody else's
    if action["state"] in {"open", "not_sent"}:
        return Retry(after=30)
    ctx.log.info("attendance_settled", verb=verb, state=action["state"], reason=action.get("reason"))
    async with ctx.transaction() as connection:
        state = await ctx.chains.state(ctx.organization, key, connection)
        state[moment.invitee] = remembered(verb, action)
        await ctx.chains.remember(connection, ctx.organization, key, json.dumps(state))
    return Done()


def remembered(verb: str, action: dict[str, Any]) -> MarkMemory:
    """Return what is remembered of an action that is over. Pure."""
    if verb == "mark_no_show":
        return "asked"
    return "cleared" if action["state"] == "done" else "left"


async def _asked(moment: Moment, ctx: Context) -> tuple[AttendedMeeting, AttendedInvitee]:
    told = await ctx.bookings.created(moment.invitee)
    name, email = (None, None) if told is None else (told.name, told.email)
    meeting = AttendedMeeting(ctx.organization, moment.scheduled_event, moment.start_time, moment.end_time)
    return meeting, AttendedInvitee(moment.invitee, email, name)
