"""The alerts on agents; alert_list.py says what an alert is."""

from __future__ import annotations

from tools.generate.alerts import Alert

_NONE = "0x90"

AGENTS = (
    Alert(
        "SlotwireDeadLetters",
        "sum by (agent, topic) (increase(slotwire_dead_letters_total[1h])) > 0",
        wait="0m",
        severity="ticket",
        summary="Agent {{ $labels.agent }} gave up events of {{ $labels.topic }}.",
        runbook="agent-stopped.md",
        faulty={'slotwire_dead_letters_total{agent="crm",topic="calendly.invitee"}': "0x10 1x80"},
        healthy={'slotwire_dead_letters_total{agent="crm",topic="calendly.invitee"}': "5x90"},
    ),
    Alert(
        "SlotwireDeadLettersOpen",
        "time() - min by (agent) (slotwire_dead_letter_oldest_timestamp_seconds) > 86400",
        wait="5m",
        severity="ticket",
        summary="A dead letter of agent {{ $labels.agent }} has waited for a decision for more than a day.",
        runbook="dead-letters-open.md",
        faulty={'slotwire_dead_letter_oldest_timestamp_seconds{agent="crm"}': "-90000x90"},
        healthy={'slotwire_dead_letter_oldest_timestamp_seconds{agent="crm"}': "0x90"},
    ),
    Alert(
        "SlotwireConsumerStuck",
        "max by (agent) (slotwire_consumer_stuck) == 1",
        wait="2m",
        severity="page",
        summary="Agent {{ $labels.agent }} has records to read and reads none.",
        runbook="agents-late.md",
        faulty={'slotwire_consumer_stuck{agent="crm"}': "0 1x90"},
        healthy={'slotwire_consumer_stuck{agent="crm"}': "0 1 0x90"},
    ),
    Alert(
        "SlotwireQueueFull",
        "max by (agent) (slotwire_consumer_queue_full) == 1",
        wait="2m",
        severity="page",
        summary="Agent {{ $labels.agent }} has no room for more events that wait for a later attempt.",
        runbook="agent-stopped.md",
        faulty={'slotwire_consumer_queue_full{agent="crm"}': "0 1x90"},
        healthy={'slotwire_consumer_queue_full{agent="crm"}': "0 1 0x90"},
    ),
    Alert(
        "SlotwireReceiverGone",
        "max by (agent) (slotwire_agent_settings_disabled) > 0",
        wait="0m",
        severity="ticket",
        summary="Agent {{ $labels.agent }} tells {{ $value }} receivers nothing more: they are gone.",
        runbook="receiver-gone.md",
        faulty={'slotwire_agent_settings_disabled{agent="notify"}': "0 1x90"},
        healthy={'slotwire_agent_settings_disabled{agent="notify"}': "0x90"},
    ),
    Alert(
        "SlotwireRunHeld",
        'time() - min by (agent, state) (slotwire_run_oldest_timestamp_seconds{state=~"unknown|diverged"}) > 300',
        wait="0m",
        severity="ticket",
        summary="A run of agent {{ $labels.agent }} is held for a person: {{ $labels.state }}.",
        runbook="run-held.md",
        faulty={'slotwire_run_oldest_timestamp_seconds{agent="crm",state="unknown"}': "0x90"},
        healthy={'slotwire_run_oldest_timestamp_seconds{agent="crm",state="waiting"}': "0x90"},
    ),
    Alert(
        "SlotwireRunOverdue",
        'time() - min by (agent, state) (slotwire_run_oldest_timestamp_seconds{state=~"parked|overdue"}) > 1800',
        wait="0m",
        severity="ticket",
        summary="A run of agent {{ $labels.agent }} does not go on: {{ $labels.state }}.",
        runbook="run-held.md",
        faulty={'slotwire_run_oldest_timestamp_seconds{agent="crm",state="parked"}': "0x90"},
        healthy={'slotwire_run_oldest_timestamp_seconds{agent="crm",state="running"}': "0x90"},
    ),
    Alert(
        "SlotwireScheduleLate",
        "max by (agent, schedule) (slotwire_schedule_late_seconds) > 300",
        wait="2m",
        severity="page",
        summary="Scheduled work {{ $labels.schedule }} of agent {{ $labels.agent }} is due, and nobody fires it.",
        runbook="schedule-late.md",
        faulty={'slotwire_schedule_late_seconds{agent="digest",schedule="nightly"}': "0+60x90"},
        healthy={'slotwire_schedule_late_seconds{agent="digest",schedule="nightly"}': "0 60 120 0x90"},
    ),
    Alert(
        "SlotwireHandlersLate",
        "histogram_quantile(0.9, sum by (agent, le) (rate(slotwire_post_to_handler_seconds_bucket[10m]))) > 60",
        wait="10m",
        severity="page",
        summary="Agent {{ $labels.agent }} handles bookings {{ $value | humanizeDuration }} after they came.",
        runbook="agents-late.md",
        faulty={
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="60.0"}': _NONE,
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="300.0"}': "0+9x90",
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="+Inf"}': "0+9x90",
        },
        healthy={
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="60.0"}': "0+9x90",
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="300.0"}': "0+9x90",
            'slotwire_post_to_handler_seconds_bucket{agent="crm",le="+Inf"}': "0+9x90",
        },
    ),
    Alert(
        "SlotwireConsumerLags",
        "sum by (agent) (slotwire_consumer_lag_records) > 1000"
        " and sum by (agent) (delta(slotwire_consumer_lag_records[15m])) > 0",
        wait="15m",
        severity="ticket",
        summary="Agent {{ $labels.agent }} is {{ $value }} records behind, and falls back further.",
        runbook="agents-late.md",
        faulty={'slotwire_consumer_lag_records{agent="crm",topic="calendly.invitee",partition="0"}': "0+100x90"},
        healthy={'slotwire_consumer_lag_records{agent="crm",topic="calendly.invitee",partition="0"}': "9000-90x90"},
    ),
)
