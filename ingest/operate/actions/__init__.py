"""Each operation once, with the roles that may do it: the management API and the command line both call it here.

One file per resource, so that a call reads as a sentence: `actions.quarantine.retry(who, delivery_id)`.

base           what all of them share: the database, the settings, and `audited`, which wraps a change
organizations  list, get, add, rename, remove, backfill
connections    list, get, add, check, delete: credentials at Calendly
connect_links  list, get, create, withdraw, exchange: links under which customers connect
subscriptions  list, get, create, delete, findings, resume, confirm_deletions: webhook subscriptions at Calendly
signing_keys   list, revoke, rotate, rotate_all: what Calendly signs their deliveries with
events         list, get, latest, follow: the log
parked_events  list, settle: events that Kafka refused
deliveries     list
bookings       list, timeline
availability   list: when users can be booked
quarantine     list, get, retry, discard
dead_letters   list, get, redrive, redrive_all, edit, discard: what agents gave up
reconciliations  list, get, create, run: holes, and the fetches that fill them
erasures       list, get, create: people whose data is taken out of everything
granted_calls  find, call: what an agent asks Calendly for while it handles an event
actions        list, get, create, decide, confirm_restore: what callers have done at Calendly
calendly       call: any operation of Calendly's API
approvals      list, get, decide, link: what agents ask people to approve
agent_settings  list, get, set, unset: what agents that come with Slotwire do
schedules      list: the scheduled work of agents
runs           list, get, decide, cancel: runs of agents that have steps or waits
mcp_agents     list, get, create, revoke, issue: agents that reach us by MCP
mcp_subscriptions  list, get, delete: what they have subscribed to by MCP Events
mcp_calls      find, call, act: what they ask Calendly for
keys           list, create, revoke: keys of the management API; rotate_vault, vault_use: keys of the vault
audit          list; and a row for a caller whose role is too low
uses           list what was done at Calendly with customers' credentials
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from slotwire.ingest.control.calendly_client.transport import CalendlyHttp
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.operate.actions.actions import PerformedActions
from slotwire.ingest.operate.actions.agent_settings import AgentSettingsActions
from slotwire.ingest.operate.actions.approvals import ApprovalActions
from slotwire.ingest.operate.actions.audit import AuditActions
from slotwire.ingest.operate.actions.availability import AvailabilityActions
from slotwire.ingest.operate.actions.bookings import BookingActions
from slotwire.ingest.operate.actions.calendly import CalendlyActions
from slotwire.ingest.operate.actions.connect_links import ConnectLinkActions
from slotwire.ingest.operate.actions.connections import ConnectionActions
from slotwire.ingest.operate.actions.dead_letters import DeadLetterActions
from slotwire.ingest.operate.actions.deliveries import DeliveryActions
from slotwire.ingest.operate.actions.erasures import ErasureActions
from slotwire.ingest.operate.actions.events import EventActions
from slotwire.ingest.operate.actions.granted_calls import GrantedCallActions
from slotwire.ingest.operate.actions.keys import KeyActions
from slotwire.ingest.operate.actions.mcp_agents import McpAgentActions
from slotwire.ingest.operate.actions.mcp_calls import McpCallActions
from slotwire.ingest.operate.actions.mcp_subscriptions import McpSubscriptionActions
from slotwire.ingest.operate.actions.organizations import OrganizationActions
from slotwire.ingest.operate.actions.parked_events import ParkedEventActions
from slotwire.ingest.operate.actions.quarantine import QuarantineActions
from slotwire.ingest.operate.actions.reconciliations import ReconciliationActions
from slotwire.ingest.operate.actions.runs import RunActions
from slotwire.ingest.operate.actions.schedules import ScheduleActions
from slotwire.ingest.operate.actions.signing_keys import SigningKeyActions
from slotwire.ingest.operate.actions.subscriptions import SubscriptionActions
from slotwire.ingest.operate.actions.uses import UseActions
from slotwire.ingest.operate.idempotency import IdempotentResponses
from slotwire.ingest.operate.key_lookup import KeyLookup
from slotwire.ingest.operate.refusals import RefusedChanges

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings


@dataclass(frozen=True, slots=True)
class Actions:
    """The operations by resource, on one database. `process.operating` makes them."""

    pool: Pool
    clock: Clock
    calendly: CalendlyHttp
    callers: KeyLookup
    refusals: RefusedChanges
    events: EventActions
    parked_events: ParkedEventActions
    deliveries: DeliveryActions
    bookings: BookingActions
    availability: AvailabilityActions
    quarantine: QuarantineActions
    dead_letters: DeadLetterActions
    connections: ConnectionActions
    connect_links: ConnectLinkActions
    organizations: OrganizationActions
    subscriptions: SubscriptionActions
    reconciliations: ReconciliationActions
    erasures: ErasureActions
    performed: PerformedActions
    signing_keys: SigningKeyActions
    runs: RunActions
    schedules: ScheduleActions
    approvals: ApprovalActions
    agent_settings: AgentSettingsActions
    calendly_api: CalendlyActions
    granted_calls: GrantedCallActions
    mcp_agents: McpAgentActions
    mcp_subscriptions: McpSubscriptionActions
    mcp_calls: McpCallActions
    keys: KeyActions
    audit: AuditActions
    uses: UseActions
    idempotency: IdempotentResponses

    @classmethod
    def on(cls, pool: Pool, callers: KeyLookup, settings: Settings, clock: Clock, calendly: CalendlyHttp) -> Self:
        """Put all operations on one pool; keys are looked up with a connection of their own."""
        refusals = RefusedChanges()
        base = (pool, settings, clock, calendly, refusals)
        return cls(
            pool,
            clock,
            calendly,
            callers,
            refusals,
            EventActions(*base),
            ParkedEventActions(*base),
            DeliveryActions(*base),
            BookingActions(*base),
            AvailabilityActions(*base),
            QuarantineActions(*base),
            DeadLetterActions(*base),
            ConnectionActions(*base),
            ConnectLinkActions(*base),
            OrganizationActions(*base),
            SubscriptionActions(*base),
            ReconciliationActions(*base),
            ErasureActions(*base),
            PerformedActions(*base),
            SigningKeyActions(*base),
            RunActions(*base),
            ScheduleActions(*base),
            ApprovalActions(*base),
            AgentSettingsActions(*base),
            CalendlyActions(*base),
            GrantedCallActions(*base),
            McpAgentActions(*base),
            McpSubscriptionActions(*base),
            McpCallActions(*base),
            KeyActions(*base),
            AuditActions(*base),
            UseActions(*base),
            IdempotentResponses(pool, settings, clock),
        )
