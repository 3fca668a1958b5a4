"""The shapes of the requests to `/simulator/…`. Unknown fields are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from slotwire.ingest.simulator.clock import MAX_ADVANCE
from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.engine import HalfOrder
from slotwire.ingest.simulator.model import Canceler, Role, TokenState
from slotwire.ingest.simulator.rates import WindowKind
from slotwire.ingest.simulator.scenarios import MAX_LOAD, PLOTS, LoadPlan, Plot

MAX_PLACES = 10
MAX_PLAN = 50
"""The maximum length of a plan's name, in characters."""
MAX_WAIT = 600.0
MAX_OTHERS = 10_000
"""The most calls of other programs, at once or in a minute."""

# An id, or a URI whose last segment it is.
Ident = Annotated[str, AfterValidator(lambda value: value.rstrip("/").rsplit("/", 1)[-1])]
Rate = Annotated[float, Field(ge=0, le=1)]


class ControlRequest(BaseModel):
    """A request to `/simulator/…`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Action(ControlRequest):
    """An action that causes deliveries; the answer can wait for their first attempts."""

    wait_seconds: float = Field(0.0, ge=0, le=MAX_WAIT)


class Advance(ControlRequest):
    """How far to move the clock forward."""

    advance_seconds: float = Field(ge=0, le=MAX_ADVANCE.total_seconds())


class FaultChange(ControlRequest):
    """Faults to change; None leaves a fault as it is."""

    duplicate_rate: Rate | None = None
    drop_rate: Rate | None = None
    lost_answer_rate: Rate | None = None
    wrong_signature_rate: Rate | None = None
    delay_seconds: float | None = Field(None, ge=0, le=86_400)
    retries_keep_signature: bool | None = None
    rest_error_rate: Rate | None = None
    rest_error_status: int | None = Field(None, ge=500, le=599)
    rest_lost_answer_rate: Rate | None = None
    rest_unanswered_rate: Rate | None = None
    rest_limited_rate: Rate | None = None
    rest_delay_seconds: float | None = Field(None, ge=0, le=60)
    rest_faults: Literal["all", "writes"] | None = None
    gives_up_after_meeting: bool | None = None
    departed_silent: bool | None = None
    token_error_rate: Rate | None = None
    token_lost_answer_rate: Rate | None = None
    booking_webhook: Literal["before", "with", "after"] | None = None
    rate_limit: int | None = Field(None, ge=0)


class RateChange(ControlRequest):
    """Rules of the rate limit to change; None leaves a rule as it is."""

    window: WindowKind | None = None
    retry_after: bool | None = None
    reset_zero: bool | None = None
    reset_skew_seconds: float | None = Field(None, ge=-60, le=60)
    others_per_minute: int | None = Field(None, ge=0, le=MAX_OTHERS)


class SpendCalls(ControlRequest):
    """Calls that another program makes as a user, at once."""

    user: Ident
    calls: int = Field(ge=1, le=MAX_OTHERS)


class Book(Action):
    """A booking; missing fields are drawn from the seed."""

    organization: Ident | None = None
    event_type: Ident | None = None
    event: Ident | None = None
    email: str | None = None
    name: str | None = None
    name_null: bool = False
    start: AwareDatetime | None = None
    timezone: str | None = None
    location: str | None = None
    tracking: dict[str, str] = {}
    places: int = Field(1, ge=1, le=MAX_PLACES)

    def details(self) -> BookingDetails:
        """Return the details for the engine."""
        start: datetime | None = self.start
        return BookingDetails(
            organization=self.organization,
            event_type=self.event_type,
            event=self.event,
            email=self.email,
            name=self.name,
            name_null=self.name_null,
            start=start,
            timezone=self.timezone,
            location=self.location,
            tracking=tuple(self.tracking.items()),
        )


class InviteeAction(Action):
    """An action on an invitee; without one, on the newest active one."""

    invitee: Ident | None = None


class Cancel(InviteeAction):
    """A cancellation of one invitee."""

    by: Canceler = "invitee"
    reason: str | None = ""


class CancelEvent(Action):
    """A cancellation of a whole scheduled event."""

    event: Ident
    reason: str | None = ""


class Reschedule(InviteeAction):
    """A move to another time; `delay_seconds` holds back the second half."""

    start: AwareDatetime | None = None
    order: HalfOrder = "random"
    delay_seconds: float = Field(0.0, ge=0, le=86_400)


class MoveEvent(Action):
    """A move of a whole scheduled event; each invitee makes a pair of halves."""

    event: Ident
    start: AwareDatetime | None = None
    order: HalfOrder = "random"
    delay_seconds: float = Field(0.0, ge=0, le=86_400)


class EditEvent(Action):
    """An edit of a scheduled event, of which Calendly tells nobody; None leaves a field as it is."""

    event: Ident
    host: Ident | None = None
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    guests: tuple[str, ...] | None = Field(None, max_length=50)
    place: str | None = Field(None, max_length=2_000)


class ClearNoShow(InviteeAction):
    """The deletion of a no-show mark; `absent` leaves `no_show` out of the payload instead of sending null."""

    absent: bool | None = None


class SubmitRoutingForm(Action):
    """The submission of a routing form."""

    organization: Ident | None = None
    invitee: Ident | None = None


class Send(ControlRequest):
    """Any bytes to send to a subscription, or to any loopback address."""

    subscription: Ident | None = None
    url: str | None = None
    body: str = ""
    body_base64: str | None = None
    signing: Literal["right", "wrong", "none"] = "right"
    signing_key: str | None = None
    age_seconds: int = 0
    headers: dict[str, str] = {}


class IssueToken(ControlRequest):
    """Another token for a user, or for an organization's owner; without either, for the first organization's owner."""

    user: Ident | None = None
    organization: Ident | None = None
    scopes: list[str] = ["default"]
    expires_in_seconds: float | None = Field(None, ge=0, le=MAX_ADVANCE.total_seconds())


class TokenStateChange(ControlRequest):
    """A token's new state."""

    token: str
    state: TokenState


class OAuthChange(ControlRequest):
    """A change of the OAuth app, or of what a user granted it."""

    rotate_signing_key: bool = False
    revoke_user: Ident | None = None


class UserChange(ControlRequest):
    """A user's new organization and role; None leaves it as it is."""

    user: Ident
    organization: Ident | None = None
    role: Role | None = None


class OrganizationChange(ControlRequest):
    """An organization's new plan; None leaves it as it is."""

    organization: Ident
    plan: str | None = Field(None, min_length=1, max_length=MAX_PLAN)
    webhooks: bool | None = None


class LoadRequest(ControlRequest):
    """A load; if `wait` is false, the answer comes at once and holds the job."""

    count: int = Field(ge=1, le=MAX_LOAD)
    seed: str = "load"
    rate: float | None = Field(None, gt=0)
    concurrency: int | None = Field(None, ge=1)
    order: HalfOrder = "random"
    ordered: bool = True
    organization: Ident | None = None
    mix: dict[Plot, int] | None = None
    timeout_seconds: float = Field(600.0, gt=0, le=86_400)
    wait: bool = True

    def plan(self) -> LoadPlan:
        """Return the plan for the load.

        Raises:
            ValueError: no weight of the mix is positive.
        """
        return LoadPlan(
            count=self.count,
            seed=self.seed,
            rate=self.rate,
            concurrency=self.concurrency,
            order=self.order,
            ordered=self.ordered,
            organization=self.organization,
            mix=PLOTS if self.mix is None else tuple(self.mix.items()),
            timeout_seconds=self.timeout_seconds,
        )


class StoryRequest(ControlRequest):
    """A slow demonstration; without a count it does not end."""

    count: int | None = Field(None, ge=1)
    interval_seconds: float = Field(2.0, ge=0, le=3600)
    seed: str = "story"
    organization: Ident | None = None
    wait: bool = False
