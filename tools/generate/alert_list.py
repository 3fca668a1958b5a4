"""Every alert: what is wrong, how long it must hold, which runbook helps, and the series that prove it."""

from __future__ import annotations

from tools.generate.alerts import Alert

ALERTS = (
    Alert(
        "SlotwireDeliveriesNotWritten",
        "max by (shard) (slotwire_unwritten_seconds) > 60",
        wait="2m",
        severity="page",
        summary="The oldest delivery of shard {{ $labels.shard }} is unwritten for {{ $value | humanizeDuration }}.",
        runbook="unwritten-growing.md",
        faulty={'slotwire_unwritten_seconds{shard="0"}': "0+60x90"},
        healthy={'slotwire_unwritten_seconds{shard="0"}': "0 1 59 0 2 300 0" + " 0x90"},
    ),
)
