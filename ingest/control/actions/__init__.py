"""Actions: book, cancel, reschedule, set and clear no-show marks at Calendly, each once for a caller's key.

intents        what can be asked for, and what Calendly is sent for it
preparing      what is looked at, and refused, before an intent is committed
settlement     pure: what shows that a step had its effect, and what follows
records        actions as they are stored: intended, claimed, kept, settled
action_events  pure: the event that says what became of one
holding        pure: how long a limit of Calendly's holds back a call
calls          one call at Calendly, and whether it was refused, not sent or lost
looks          looks for an effect: in the log since the intent, and at Calendly
keeping        what is stored of one between its calls, and at its end
perform        an action from its intent to its end
action_rounds  a chore: goes on with what is open
deciding       what a person decides about an action that shows nothing by itself
"""
