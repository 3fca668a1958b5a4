"""From the log to Kafka: what `slotwire relay` runs.

lease       who leads a shard
log_reader  reads events from Postgres
cursor      how far is published: a record in Kafka
publisher   the transactional producer
shard       one step: read, publish, move the cursor
status      what the relay says of itself
process     the loop, and the composition root
"""
