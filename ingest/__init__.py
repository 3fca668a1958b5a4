"""From Calendly's webhook to Kafka, and everything that runs beside it: a folder for each stage or part.

receive     `serve`: from the socket to the commit; and the door, by which all comes in that is to become events
log         the one writer: normalize, join, append
relay       `relay`: the leader of a shard, which runs the writer and publishes the log to Kafka
keys        the vault, hooks and signing keys: what `receive` and `control` share
control     Calendly's side: connections, subscriptions, backfill, the API client
operate     the operators' side: actions, management API, doctor; `process.py` puts `control` together
cli         commands, a file a noun
foundation  what every process stands on: settings, Postgres, Kafka, telemetry, health, clock
local       the embedded stack of `slotwire local` and of the tests
simulator   a small Calendly
sql         statements by name, and migrations
errors      every exception of ours, to import from one place

ARCHITECTURE.md follows one delivery.
"""

if __name__ != "slotwire.ingest":
    # From the repository's root `import ingest` would find this folder and load everything a second time.
    raise ImportError(f"this package is slotwire.ingest, not {__name__}: import it under that name")
