"""The one writer: what was accepted becomes facts, bookings and events, in the order of positions.

delivery   an accepted delivery, with its tenant and its origin
normalize  pure: bytes to typed facts in Calendly's words, or a reason why not
reading    pure: JSON, also with half a character, or a number that no reader holds
drift      pure: fields that are not as documented, set apart under `extra`
parts      pure: how much there is in a body, counted before anything is made of it
booking    pure: the state of one invitee
move       pure: what is known of a reschedule by an action
replacing  pure: which invitee replaces which by such an action
erased     pure: what is left of facts about somebody who was erased
join       pure: a fact and the rows it touches give new rows and events
joined     the rows and events that a join leads to
outcome    what became of a delivery, as an enum
batch      pure: the facts of some deliveries, as the arguments of one append
backlog    what is accepted and not settled, and what of it comes next: a share per tenant
known      what is read for a batch: bookings, moves, erasures
writer     takes over a shard, and appends step by step
counts     what the writer counts and says of what it has settled

`ingest/relay` runs the writer. Nobody else calls it, or the pure functions: they come by `ingest/receive/accept.py`.
"""
