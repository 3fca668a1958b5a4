"""Every alert: what is wrong, how long it must hold, which runbook helps, and the series that prove it.

Gauges that vanish with their reader are watched by `absent`. Counters are compared over a span: a restart of the
process, which begins them at 0 again, neither fires nor clears an alert.
"""

from __future__ import annotations

from tools.generate.action_alerts import ACTIONS
from tools.generate.agent_alerts import AGENTS
from tools.generate.alerts import Alert
from tools.generate.log_alerts import LOG

_HELD = "1x90"
_NONE = "0x90"
_MADE_ROOM = 'slotwire_connections_refused_total{listener="hooks",reason="made_room"}'
_UP = {f'slotwire_build_info{{process="{process}"}}': _HELD for process in ("serve", "relay", "control", "agents")}
_DELIVERIES = 'slotwire_deliveries_total{outcome="%s",reason="%s"}'


def _holds(reason: str, name: str, wait: str, summary: str, runbook: str) -> Alert:
    """Make the alert for a relay that holds: each reason has a runbook of its own."""
    return Alert(
        f"SlotwireRelayHolds{name}",
        f'max(slotwire_relay_holding{{reason="{reason}"}}) == 1',
        wait=wait,
        severity="page",
        summary=summary,
        runbook=runbook,
        faulty={f'slotwire_relay_holding{{reason="{reason}"}}': "0 0 1x90"},
        healthy={f'slotwire_relay_holding{{reason="{reason}"}}': "0 1 0x20 1 0x90"},
    )


_PROCESSES = (
    Alert(
        "SlotwireProcessMissing",
        " or ".join(
            f'absent(slotwire_build_info{{process="{process}"}})' for process in ("serve", "relay", "control", "agents")
        ),
        wait="5m",
        severity="page",
        summary="No process {{ $labels.process }} answers /metrics.",
        runbook="process-missing.md",
        faulty={name: value for name, value in _UP.items() if "relay" not in name},
        healthy=_UP,
    ),
    Alert(
        "SlotwireNotObserved",
        "absent(slotwire_parked_events)",
        wait="10m",
        severity="page",
        summary="No control reads Postgres for the metrics: parked events, silence and expiry would go unnoticed.",
        runbook="process-missing.md#nothing-is-observed",
        faulty={"slotwire_parked_events": "0x10 _x80"},
        healthy={"slotwire_parked_events": "0x10 _x8 0x80"},
    ),
    Alert(
        "SlotwireFilesNearLimit",
        "max by (process, instance) ((process_open_fds / process_max_fds)"
        " * on (instance) group_left (process) slotwire_build_info) > 0.8",
        wait="10m",
        severity="ticket",
        summary="{{ $labels.process }} at {{ $labels.instance }} uses {{ $value | humanizePercentage }} of its files.",
        runbook="connections-at-limit.md",
        faulty={
            'process_open_fds{instance="a"}': "900x90",
            'process_max_fds{instance="a"}': "1024x90",
            'slotwire_build_info{instance="a",process="serve"}': _HELD,
        },
        healthy={
            'process_open_fds{instance="a"}': "80x90",
            'process_max_fds{instance="a"}': "1024x90",
            'slotwire_build_info{instance="a",process="serve"}': _HELD,
        },
    ),
)

_DOOR = (
    Alert(
        "SlotwireDeliveriesUnavailable",
        'sum(rate(slotwire_deliveries_total{outcome="unavailable"}[5m]))'
        " / sum(rate(slotwire_deliveries_total[5m])) > 0.05",
        wait="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the deliveries are answered 503. Calendly retries for 24 h.",
        runbook="postgres-away.md",
        faulty={_DELIVERIES % ("accepted", ""): "0+50x90", _DELIVERIES % ("unavailable", "timeout"): "0+10x90"},
        healthy={_DELIVERIES % ("accepted", ""): "0+50x90", _DELIVERIES % ("unavailable", "timeout"): "0+2x90"},
    ),
    Alert(
        "SlotwireNothingIsAuthentic",
        'sum(increase(slotwire_deliveries_total{outcome="refused"}[30m])) > 3'
        ' and sum(increase(slotwire_deliveries_total{outcome="accepted"}[30m])) == 0',
        wait="5m",
        severity="page",
        summary="Deliveries come in and none is authentic: a key or the address may be wrong.",
        runbook="deliveries-refused.md",
        faulty={_DELIVERIES % ("refused", "mismatch"): "0+1x90", _DELIVERIES % ("accepted", ""): "7x90"},
        healthy={_DELIVERIES % ("refused", "mismatch"): "0+1x90", _DELIVERIES % ("accepted", ""): "0+1x90"},
    ),
    Alert(
        "SlotwireSignaturesFail",
        f"sum(increase({_DELIVERIES % ('refused', 'mismatch')}[5m])) > 2",
        wait="1m",
        severity="page",
        summary="Signatures at genuine addresses do not fit: was the OAuth app's signing key changed at Calendly?",
        runbook="deliveries-refused.md#the-apps-key-was-changed",
        faulty={_DELIVERIES % ("refused", "mismatch"): "0+1x90", _DELIVERIES % ("accepted", ""): "0+9x90"},
        healthy={_DELIVERIES % ("refused", "mismatch"): "0 1 1x90", _DELIVERIES % ("accepted", ""): "0+9x90"},
    ),
    Alert(
        "SlotwireAnswersSlow",
        "histogram_quantile(0.99, sum by (le) (rate(slotwire_delivery_seconds_bucket[5m]))) > 5",
        wait="5m",
        severity="page",
        summary="One delivery of 100 waits {{ $value | humanizeDuration }} or longer; Calendly waits 15 s.",
        runbook="postgres-away.md#slow-answers",
        faulty={
            'slotwire_delivery_seconds_bucket{le="2.5"}': _NONE,
            'slotwire_delivery_seconds_bucket{le="8"}': "0+60x90",
            'slotwire_delivery_seconds_bucket{le="+Inf"}': "0+60x90",
        },
        healthy={
            'slotwire_delivery_seconds_bucket{le="2.5"}': "0+60x90",
            'slotwire_delivery_seconds_bucket{le="8"}': "0+60x90",
            'slotwire_delivery_seconds_bucket{le="+Inf"}': "0+60x90",
        },
    ),
    Alert(
        "SlotwireListenerNearLimit",
        "slotwire_listener_connections / slotwire_listener_connections_limit > 0.8"
        " or sum without (listener, reason)"
        ' (increase(slotwire_connections_refused_total{listener="hooks",reason=~"made_room|no_room"}[10m])) > 0',
        wait="2m",
        severity="page",
        summary="The listener for Calendly has nearly as many connections as it takes, or refuses some.",
        runbook="connections-at-limit.md",
        faulty={_MADE_ROOM: "0x10 0+1x80"},
        healthy={
            _MADE_ROOM: _NONE,
            'slotwire_connections_refused_total{listener="hooks",reason="unreadable"}': "0+1x90",
            "slotwire_listener_connections": "40x90",
            "slotwire_listener_connections_limit": "2000x90",
        },
    ),
    Alert(
        "SlotwirePostgresNearLimit",
        "max(slotwire_postgres_connections) / max(slotwire_postgres_connections_limit) > 0.85",
        wait="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the connections that Postgres takes are used.",
        runbook="connections-at-limit.md",
        faulty={"slotwire_postgres_connections": "90x90", "slotwire_postgres_connections_limit": "97x90"},
        healthy={"slotwire_postgres_connections": "40x90", "slotwire_postgres_connections_limit": "97x90"},
    ),
    Alert(
        "SlotwirePoolWaits",
        "histogram_quantile(0.95, sum by (le, instance) (rate(slotwire_pool_wait_seconds_bucket[10m]))) > 1",
        wait="10m",
        severity="ticket",
        summary="A process waits {{ $value | humanizeDuration }} for a connection of its pool.",
        runbook="connections-at-limit.md",
        faulty={
            'slotwire_pool_wait_seconds_bucket{instance="a",le="1.0"}': _NONE,
            'slotwire_pool_wait_seconds_bucket{instance="a",le="2.5"}': "0+9x90",
            'slotwire_pool_wait_seconds_bucket{instance="a",le="+Inf"}': "0+9x90",
        },
        healthy={
            'slotwire_pool_wait_seconds_bucket{instance="a",le="1.0"}': "0+9x90",
            'slotwire_pool_wait_seconds_bucket{instance="a",le="2.5"}': "0+9x90",
            'slotwire_pool_wait_seconds_bucket{instance="a",le="+Inf"}': "0+9x90",
        },
    ),
)

_KAFKA = (
    _holds(
        "cursor",
        "Cursor",
        "1m",
        "The relay's cursor does not fit the log.",
        "relay-cursor-mismatch.md",
    ),
    _holds("topic", "Topic", "2m", "A topic is missing or forbidden.", "topic-missing.md"),
    _holds("broker", "Broker", "5m", "Kafka is out of reach; events wait in Postgres.", "kafka-away.md"),
    _holds("refused", "Refused", "2m", "Kafka refuses one event after another.", "event-parked.md"),
    _holds("database", "Database", "5m", "The relay cannot use Postgres.", "postgres-away.md"),
    Alert(
        "SlotwireRelayLags",
        "max by (shard) (slotwire_relay_lag_seconds) > 120",
        wait="3m",
        severity="page",
        summary="The oldest unpublished event of shard {{ $labels.shard }} waits {{ $value | humanizeDuration }}.",
        runbook="kafka-away.md",
        faulty={'slotwire_relay_lag_seconds{shard="0"}': "0+60x90"},
        healthy={'slotwire_relay_lag_seconds{shard="0"}': "0 1 130 0x90"},
    ),
    Alert(
        "SlotwireEventParked",
        "max(slotwire_parked_events) > 0",
        wait="0m",
        severity="ticket",
        summary="{{ $value }} events were refused by Kafka and are in Postgres only.",
        runbook="event-parked.md",
        faulty={"slotwire_parked_events": "0x10 1x80"},
        healthy={"slotwire_parked_events": _NONE},
    ),
)

_CALENDLY = (
    Alert(
        "SlotwireOrganizationSilent",
        "min by (organization) (slotwire_silence_probability) < 0.001",
        wait="15m",
        severity="ticket",
        summary="Organization {{ $labels.organization }} is silent as long as it is one time in a thousand, or less.",
        runbook="organization-silent.md",
        faulty={'slotwire_silence_probability{organization="ACME"}': "1x10 0.5x10 0.0004x70"},
        healthy={'slotwire_silence_probability{organization="ACME"}': "1x10 0.02x70"},
    ),
    Alert(
        "SlotwireSubscriptionUnserved",
        "max(slotwire_subscriptions_unserved) > 0",
        wait="15m",
        severity="page",
        summary="{{ $value }} wanted subscriptions are served by none at Calendly: their bookings do not come.",
        runbook="subscription-disabled.md",
        faulty={'slotwire_subscriptions_unserved{instance="a"}': "2x90"},
        healthy={'slotwire_subscriptions_unserved{instance="a"}': "0x9 1x9 0x72"},
    ),
    Alert(
        "SlotwireHoleOpen",
        'time() - min by (cause) (slotwire_hole_oldest_timestamp_seconds{cause!="unwatched"}) > 3600',
        wait="5m",
        severity="ticket",
        summary="What may have been missed is not fetched for more than an hour ({{ $labels.cause }}).",
        runbook="hole-open.md",
        faulty={'slotwire_hole_oldest_timestamp_seconds{cause="refused"}': "0x90"},
        healthy={
            'slotwire_hole_oldest_timestamp_seconds{cause="refused"}': "0x30 _x60",
            'slotwire_hole_oldest_timestamp_seconds{cause="unwatched"}': "0x90",
        },
    ),
    Alert(
        "SlotwireSubscriptionContested",
        'max(slotwire_subscription_findings{finding="contested"}) > 0',
        wait="1m",
        severity="page",
        summary="{{ $value }} subscriptions were gone again and again: something deletes them, and none is made.",
        runbook="subscription-disabled.md#contested",
        faulty={'slotwire_subscription_findings{finding="contested"}': "0x5 1x85"},
        healthy={
            'slotwire_subscription_findings{finding="contested"}': _NONE,
            'slotwire_subscription_findings{finding="gone"}': "1x90",
        },
    ),
    Alert(
        "SlotwireSubscriptionsReduced",
        'sum by (finding) (slotwire_subscription_findings{finding=~"plan_lost|scope_lost|refused|unverified"}) > 0',
        wait="30m",
        severity="ticket",
        summary="{{ $value }} subscriptions are not as wanted, and need you: {{ $labels.finding }}.",
        runbook="subscription-disabled.md#findings",
        faulty={'slotwire_subscription_findings{finding="plan_lost"}': "0x5 2x85"},
        healthy={
            'slotwire_subscription_findings{finding="plan_lost"}': "0x5 2x9 0x76",
            'slotwire_subscription_findings{finding="replacing"}': "1x90",
        },
    ),
    Alert(
        "SlotwireSubscriptionsNotListed",
        "time() - min(slotwire_subscriptions_listed_timestamp_seconds) > 1800",
        wait="5m",
        severity="ticket",
        summary="Calendly was not asked about an organization's subscriptions for {{ $value | humanizeDuration }}.",
        runbook="subscription-disabled.md#findings",
        faulty={"slotwire_subscriptions_listed_timestamp_seconds": "0x90"},
        healthy={"slotwire_subscriptions_listed_timestamp_seconds": "0+60x90"},
    ),
    Alert(
        "SlotwireConnectionUnable",
        'sum by (state) (slotwire_connections{state=~"revoked|needs_reauth|error"}) > 0',
        wait="5m",
        severity="page",
        summary="{{ $value }} connections to Calendly are {{ $labels.state }}: nothing can be managed with them.",
        runbook="connection-revoked.md",
        faulty={'slotwire_connections{state="revoked"}': "0x5 1x85", 'slotwire_connections{state="active"}': "3x90"},
        healthy={'slotwire_connections{state="revoked"}': _NONE, 'slotwire_connections{state="active"}': "3x90"},
    ),
    Alert(
        "SlotwireTokenExpires",
        "min(slotwire_token_expiry_timestamp_seconds) - time() < 7 * 86400",
        wait="10m",
        severity="ticket",
        summary="A token for Calendly expires in {{ $value | humanizeDuration }}.",
        runbook="connection-revoked.md#a-token-is-about-to-expire",
        faulty={"slotwire_token_expiry_timestamp_seconds": "300000x90"},
        healthy={"slotwire_token_expiry_timestamp_seconds": "3000000x90"},
    ),
    Alert(
        "SlotwireRefreshesFail",
        'sum(increase(slotwire_connection_refreshes_total{outcome=~"unknown|failed|later"}[30m])) > 3'
        ' and sum(increase(slotwire_connection_refreshes_total{outcome="refreshed"}[30m])) == 0',
        wait="5m",
        severity="ticket",
        summary="No OAuth connection is refreshed: their tokens end within two hours.",
        runbook="calendly-away.md#no-connection-is-refreshed",
        faulty={
            'slotwire_connection_refreshes_total{outcome="unknown"}': "0+1x90",
            'slotwire_connection_refreshes_total{outcome="refreshed"}': "9x90",
        },
        healthy={
            'slotwire_connection_refreshes_total{outcome="unknown"}': "0+1x90",
            'slotwire_connection_refreshes_total{outcome="refreshed"}': "0+1x90",
        },
    ),
    Alert(
        "SlotwireCalendlyFails",
        'sum(rate(slotwire_calendly_calls_total{status=~"5..|none|429"}[15m]))'
        " / sum(rate(slotwire_calendly_calls_total[15m])) > 0.5",
        wait="15m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the calls to Calendly get no answer, an error, or 429.",
        runbook="calendly-away.md",
        faulty={
            'slotwire_calendly_calls_total{status="200"}': "0+1x90",
            'slotwire_calendly_calls_total{status="503"}': "0+4x90",
        },
        healthy={
            'slotwire_calendly_calls_total{status="200"}': "0+9x90",
            'slotwire_calendly_calls_total{status="503"}': "0+1x90",
        },
    ),
    Alert(
        "SlotwireCallsMissingFromAudit",
        "sum(increase(slotwire_calendly_uses_lost_total[1h])) > 0",
        wait="1m",
        severity="ticket",
        summary="{{ $value | humanize }} calls to Calendly are missing from the audit of credential uses.",
        runbook="postgres-away.md#calls-are-missing-from-the-audit",
        faulty={"slotwire_calendly_uses_lost_total": "0 0 5x90"},
        healthy={"slotwire_calendly_uses_lost_total": "5x90"},
    ),
    Alert(
        "SlotwireCalendlyLimited",
        'sum(rate(slotwire_calendly_calls_withheld_total{reason="limit"}[15m])) > 0',
        wait="15m",
        severity="ticket",
        summary="Calls to Calendly get no turn in time: a user's rate limit is spent.",
        runbook="calendly-limited.md",
        faulty={'slotwire_calendly_calls_withheld_total{priority="person",reason="limit"}': "0+1x90"},
        healthy={'slotwire_calendly_calls_withheld_total{priority="person",reason="limit"}': "3x90"},
    ),
)

ALERTS = (*_PROCESSES, *_DOOR, *LOG, *_KAFKA, *AGENTS, *_CALENDLY, *ACTIONS)
