"""Bookings as MCP Events (SEP-3415): an agent of another host asks for what is published, or is told of it.

extension      binds the methods to the official library
service        puts all of this together, for the process
profiles       pure: what differs between the hosts that agents live in
catalogue      pure: which types there are, made from `schemas/`
occurrences    pure: an event of the log, whom it concerns, how an agent is told of it
cursors        pure: places in the log, for one agent and user each
published      reads what is published, never ahead of Kafka
requests       checks what is asked for
access         what an agent may still be told, asked before each send
poll           `events/poll`: one look at the log
feed           what is published, read once for all who follow
stream         `events/stream`: goes on until one side ends it
subscribe      `events/subscribe` and `events/unsubscribe`
challenge      an address has to show that it wants what it is sent
subscriptions  webhook subscriptions as they are stored
slots          which of them this process delivers
held           one that it delivers, with what comes for it
delivery       begins each as soon as there is something for it
rounds         one round of requests of one, and what became of them in one commit
sender         one try: signs, sends, says what came of it
verdicts       what a try means for a subscription
together       many small questions to Postgres as few
"""
