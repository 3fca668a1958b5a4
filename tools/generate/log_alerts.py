"""The alerts of the log: what is not written, not kept apart, not understood, not erased, or waits."""

from __future__ import annotations

from tools.generate.alerts import Alert

_HELD = "1x90"
_NONE = "0x90"

LOG = (
    Alert(
        "SlotwireDeliveriesNotWritten",
        "max by (shard) (slotwire_unwritten_seconds) > 60",
        wait="2m",
        severity="page",
        summary="The oldest delivery of shard {{ $labels.shard }} is unwritten for {{ $value | humanizeDuration }}.",
        runbook="unwritten-growing.md",
        faulty={'slotwire_unwritten_seconds{shard="0"}': "0+60x90"},
        healthy={'slotwire_unwritten_seconds{shard="0"}': "0 1 59 0 2 300 0x90"},
    ),
    Alert(
        "SlotwireUnwrittenNearLimit",
        "max by (shard) (slotwire_unwritten_bytes) > 0.5 * scalar(min(slotwire_unwritten_limit_bytes))",
        wait="1m",
        severity="page",
        summary="{{ $value | humanize1024 }}B of shard {{ $labels.shard }} are unwritten; past the limit it is 503.",
        runbook="unwritten-growing.md",
        faulty={
            'slotwire_unwritten_bytes{shard="0"}': "0+1e9x90",
            'slotwire_unwritten_limit_bytes{instance="a"}': "2e10x90",
            'slotwire_unwritten_limit_bytes{instance="b"}': "4e10x90",
        },
        healthy={
            'slotwire_unwritten_bytes{shard="0"}': "0+1e6x90",
            'slotwire_unwritten_limit_bytes{instance="a"}': "2e10x90",
        },
    ),
    Alert(
        "SlotwireNobodyWrites",
        "absent(slotwire_unwritten_seconds) or max by (shard) (slotwire_relay_leader) == 0",
        wait="3m",
        severity="page",
        summary="No relay leads: deliveries are accepted, and no event is made of them.",
        runbook="unwritten-growing.md",
        faulty={'slotwire_unwritten_seconds{shard="0"}': "0x10 _x80"},
        healthy={
            'slotwire_unwritten_seconds{shard="0"}': _NONE,
            'slotwire_relay_leader{shard="0",instance="a"}': _HELD,
            'slotwire_relay_leader{shard="0",instance="b"}': _NONE,
        },
    ),
    Alert(
        "SlotwireRangesEnd",
        "max(slotwire_ranges_ahead) < 2",
        wait="1h",
        severity="ticket",
        summary="Partitions are made for {{ $value }} more days only.",
        runbook="unwritten-growing.md#partitions-ahead",
        faulty={"slotwire_ranges_ahead": "1x90"},
        healthy={"slotwire_ranges_ahead": "7x90"},
    ),
    Alert(
        "SlotwireRetentionHeld",
        "max by (kind) (slotwire_ranges_held) > 0",
        wait="1h",
        severity="ticket",
        summary="{{ $value }} old days of {{ $labels.kind }} cannot be removed.",
        runbook="retention-held.md",
        faulty={'slotwire_ranges_held{kind="bodies"}': "0x5 2x85"},
        healthy={'slotwire_ranges_held{kind="bodies"}': "1x20 0x70"},
    ),
    Alert(
        "SlotwireQuarantineWaits",
        "sum by (reason) (slotwire_quarantine_waiting) > 0",
        wait="15m",
        severity="ticket",
        summary="{{ $value }} deliveries wait in quarantine: {{ $labels.reason }}.",
        runbook="quarantine-growing.md",
        faulty={'slotwire_quarantine_waiting{reason="unknown_event"}': "0x5 3x85"},
        healthy={'slotwire_quarantine_waiting{reason="unknown_event"}': "_x5 2x9 _x90"},
    ),
    Alert(
        "SlotwireCrossTenant",
        "sum(increase(slotwire_cross_tenant_total[1h])) > 0",
        wait="0m",
        severity="page",
        summary="Two organizations are told of the same booking.",
        runbook="quarantine-growing.md#a-booking-of-two-organizations",
        faulty={"slotwire_cross_tenant_total": "0x10 1x80"},
        healthy={"slotwire_cross_tenant_total": "4x90"},
    ),
    Alert(
        "SlotwireFieldsDrift",
        "sum(increase(slotwire_drifted_fields_total[6h])) > 0",
        wait="0m",
        severity="ticket",
        summary="Calendly sends fields in another type than documented; their events go on without them.",
        runbook="quarantine-growing.md#fields-that-drift",
        faulty={'slotwire_drifted_fields_total{field="location"}': "1 1 2 3x90"},
        healthy={'slotwire_drifted_fields_total{field="location"}': "3x90"},
    ),
    Alert(
        "SlotwireHalvesWait",
        "sum by (kind) (slotwire_waiting) > 0",
        wait="30m",
        severity="ticket",
        summary="{{ $value }} bookings wait for their other half ({{ $labels.kind }}).",
        runbook="subscription-disabled.md",
        faulty={'slotwire_waiting{shard="0",kind="reschedule"}': "2x90"},
        healthy={'slotwire_waiting{shard="0",kind="reschedule"}': "0x9 1x9 0x72"},
    ),
    Alert(
        "SlotwireErasureOpen",
        "time() - min(slotwire_erasure_oldest_timestamp_seconds) > 3600",
        wait="5m",
        severity="ticket",
        summary="A person was to be erased {{ $value | humanizeDuration }} ago, and is not yet.",
        runbook="erasure-open.md",
        faulty={"slotwire_erasure_oldest_timestamp_seconds": "0x90"},
        healthy={"slotwire_erasure_oldest_timestamp_seconds": "0x40 _x50", "slotwire_erasures_open": "1x40 0x50"},
    ),
)
