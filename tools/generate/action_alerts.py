"""The alerts of actions: of some it is not known what became of them."""

from __future__ import annotations

from tools.generate.alerts import Alert

ACTIONS = (
    Alert(
        "SlotwireActionWithPerson",
        'max(slotwire_actions_waiting{state="person"}) > 0',
        wait="5m",
        severity="ticket",
        summary="Of {{ $value }} actions at Calendly only a person can tell what became of them.",
        runbook="action-with-person.md",
        faulty={'slotwire_actions_waiting{state="person"}': "0x5 1x85"},
        healthy={
            'slotwire_actions_waiting{state="person"}': "0x5 1x3 0x82",
            'slotwire_actions_waiting{state="open"}': "1x90",
        },
    ),
    Alert(
        "SlotwireActionOpen",
        'time() - min(slotwire_action_oldest_timestamp_seconds{state=~"open|not_sent"}) > 900',
        wait="5m",
        severity="ticket",
        summary="It has not been known for more than 15 minutes what became of an action at Calendly.",
        runbook="action-with-person.md",
        faulty={'slotwire_action_oldest_timestamp_seconds{state="open"}': "0x90"},
        healthy={
            'slotwire_action_oldest_timestamp_seconds{state="open"}': "0x10 _x80",
            'slotwire_action_oldest_timestamp_seconds{state="person"}': "0x90",
            'slotwire_action_oldest_timestamp_seconds{state="held"}': "0x90",
        },
    ),
)
