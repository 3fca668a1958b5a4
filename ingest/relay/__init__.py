"""The leader of a shard: writes what was accepted, and publishes the log to Kafka. What `slotwire relay` runs.

lease       who leads a shard, with a heartbeat in a thread of its own
write_loop  runs the writer of `ingest/log`, and its chores
handoff     events from the writer to the publisher, in memory
log_reader  reads events from Postgres, where memory has a gap
cursor      how far is published: a record in Kafka
restore     after a restore of Postgres: what was published stays published
publisher   the transactional producer
shard       one step: the next events, publish, move the cursor
status      what the relay says of itself
process     the loops, and the composition root
"""
