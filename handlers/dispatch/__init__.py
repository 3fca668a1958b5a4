"""From a record to its result: lanes in order, keys concurrently, tries again or gives up.

dispatcher  runs the lanes, within a limit
lanes       order per key, keys concurrently
handle      one record: decode, skip, run, try again, give up
give_up     writes its dead letter, until there are too many
attempt     one run of a handler
careful     one at a time where a process has died
isolation   with context variables and a limit of time of its own
interruption  interrupts a run, and lets go of one that does not end
runs        the runs of one agent in one process
resume      lets runs that were set aside go on when an event of their key comes
queueing    handles them in turn with the others
slots       how many runs go on at once
due         which runs go on without an event
"""
