"""The simulator's data: organizations and their people, bookings, subscriptions and messages. All are frozen.

Ids are the last segments of Calendly's URIs; `uri()` makes a URI of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

API = "https://api.calendly.com"
FREE = "free"

Json: TypeAlias = dict[str, object]
Role: TypeAlias = Literal["owner", "admin", "user"]
Status: TypeAlias = Literal["active", "canceled"]
Canceler: TypeAlias = Literal["host", "invitee"]
Scope: TypeAlias = Literal["organization", "user", "group"]
TokenState: TypeAlias = Literal["valid", "revoked", "expired"]
MessageState: TypeAlias = Literal["pending", "acknowledged", "abandoned", "dropped"]


def uri(kind: str, ident: str) -> str:
    """Return the URI of a top-level resource, for example `uri("users", "ABC")`."""
    return f"{API}/{kind}/{ident}"


@dataclass(frozen=True, slots=True)
class SimulatedOrganization:
    """An organization of Calendly; if `webhooks` is false, its plan includes no webhooks."""

    id: str
    name: str
    slug: str
    plan: str
    created_at: datetime
    webhooks: bool = True

    @property
    def pays(self) -> bool:
        """False on the free plan."""
        return self.plan != FREE


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """A member of one organization."""

    id: str
    organization: str
    membership: str
    name: str
    slug: str
    email: str
    role: Role
    timezone: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SimulatedEventType:
    """An event type that can be booked; with a `limit` above 1 it is a group event."""

    id: str
    organization: str
    owner: str
    name: str
    slug: str
    minutes: int
    location: str
    limit: int
    created_at: datetime
    active: bool = True


@dataclass(frozen=True, slots=True)
class SimulatedRoutingForm:
    """A form that leads to an event type."""

    id: str
    organization: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """Some users of an organization."""

    id: str
    organization: str
    name: str
    members: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; `scopes` by Calendly's names, or `default` for everything. `app`: made for the OAuth app."""

    value: str
    user: str
    scopes: tuple[str, ...]
    state: TokenState = "valid"
    expires_at: datetime | None = None
    app: bool = False

    def state_at(self, now: datetime) -> TokenState:
        """Return its state at a time: a token that has ended is expired."""
        ended = self.expires_at is not None and now >= self.expires_at
        return "expired" if ended and self.state == "valid" else self.state


@dataclass(frozen=True, slots=True)
class SimulatedCancellation:
    """A cancellation; the reason may be empty."""

    canceled_by: str
    canceler_type: Canceler
    created_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class SimulatedScheduledEvent:
    """A booked meeting."""

    id: str
    organization: str
    host: str
    event_type: str
    name: str | None
    start: datetime
    end: datetime
    location: Json | None
    limit: int
    created_at: datetime
    updated_at: datetime
    status: Status = "active"
    cancellation: SimulatedCancellation | None = None
    guests: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The event's URI."""
        return uri("scheduled_events", self.id)


@dataclass(frozen=True, slots=True)
class SimulatedNoShow:
    """A no-show mark of an invitee."""

    id: str
    created_at: datetime

    @property
    def uri(self) -> str:
        """The mark's URI."""
        return uri("invitee_no_shows", self.id)


@dataclass(frozen=True, slots=True)
class BookingAnswer:
    """One question of the booking form and its answer."""

    question: str
    answer: str
    position: int


@dataclass(frozen=True, slots=True)
class SimulatedInvitee:
    """A person's place in a scheduled event."""

    id: str
    event: str
    email: str
    name: str | None
    timezone: str | None
    created_at: datetime
    updated_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    status: Status = "active"
    answers: tuple[BookingAnswer, ...] = ()
    tracking: tuple[tuple[str, str], ...] = ()
    text_reminder_number: str | None = None
    rescheduled: bool = False
    old_invitee: str | None = None
    new_invitee: str | None = None
    routing_form_submission: str | None = None
    payment: Json | None = None
    no_show: SimulatedNoShow | None = None
    scheduling_method: str | None = None
    scheduled_by: str | None = None
    cancellation: SimulatedCancellation | None = None

    @property
    def uri(self) -> str:
        """The invitee's URI, the identity of the booking."""
        return f"{API}/scheduled_events/{self.event}/invitees/{self.id}"


@dataclass(frozen=True, slots=True)
class SimulatedSubmission:
    """A submitted routing form, with the invitee's URI if it led to a booking."""

    id: str
    organization: str
    form: str
    answers: tuple[tuple[str, str, str | None], ...]
    result: Json | None
    invitee: str | None
    created_at: datetime

    @property
    def uri(self) -> str:
        """The submission's URI."""
        return uri("routing_form_submissions", self.id)


@dataclass(frozen=True, slots=True)
class SimulatedSubscription:
    """A webhook subscription.

    `retry_started_at` is what REST shows: null, or when retrying began. `failing_since` is the time of the first
    failure since the last success; after 24 h the subscription is disabled (docs/reference/calendly.md, "Delivery").
    `app`: made with a token of the OAuth app, so that the app's key signs if it has none of its own.
    """

    id: str
    url: str
    organization: str
    scope: Scope
    user: str | None
    group: str | None
    events: tuple[str, ...]
    creator: str
    signing_key: str | None = field(repr=False)
    created_at: datetime
    updated_at: datetime
    state: Literal["active", "disabled"] = "active"
    retry_started_at: datetime | None = None
    failing_since: datetime | None = None
    app: bool = False

    @property
    def uri(self) -> str:
        """The subscription's URI."""
        return uri("webhook_subscriptions", self.id)


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery to one subscription, until it is acknowledged or abandoned.

    `after` is the id of a message whose first attempt must end before the first attempt of this one; `signed_at` is
    the `t` of the first attempt (unix seconds).
    """

    id: str
    subscription: str
    event: str
    resource: str
    body: bytes = field(repr=False)
    created_at: datetime
    due_at: datetime
    state: MessageState = "pending"
    attempts: int = 0
    first_attempt_at: datetime | None = None
    signed_at: int | None = None
    after: str | None = None
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST: the status of its answer or the error, and the injected fault if there was one."""

    message: str
    number: int
    at: datetime
    seconds: float
    status: int | None
    error: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults to inject. Rates go from 0 to 1; seed, message and attempt (or REST request) decide each case.

    With `rest_error_rate` a REST call is not carried out and answered with an HTML error of `rest_error_status`. With
    `rest_lost_answer_rate` it is carried out and answered with the same error, with `rest_unanswered_rate` it is
    carried out and its connection closed without an answer. `token_…` are the first two for `/oauth/token`, with 502.
    With `rest_limited_rate` a call is refused as one beyond the rate limit is. A REST answer takes
    `rest_delay_seconds` of the machine's time, and so does the lack of one.

    With `rest_faults` of `writes` these hit only calls that are no GET.

    Three settings stand for what Calendly's documents leave open: `gives_up_after_meeting` ends the retries of a
    message 24 h after its meeting, `departed_silent` sends nothing to a subscription whose creator or user has left,
    and `booking_webhook` says when the webhook of a booking by API comes: before, with or after the call's answer.
    """

    duplicate_rate: float = 0.0
    drop_rate: float = 0.0
    lost_answer_rate: float = 0.0
    wrong_signature_rate: float = 0.0
    delay_seconds: float = 0.0
    retries_keep_signature: bool = False
    rest_error_rate: float = 0.0
    rest_error_status: int = 502
    rest_lost_answer_rate: float = 0.0
    rest_unanswered_rate: float = 0.0
    rest_limited_rate: float = 0.0
    rest_delay_seconds: float = 0.0
    rest_faults: Literal["all", "writes"] = "all"
    gives_up_after_meeting: bool = False
    departed_silent: bool = False
    token_error_rate: float = 0.0
    token_lost_answer_rate: float = 0.0
    booking_webhook: Literal["before", "with", "after"] = "with"
