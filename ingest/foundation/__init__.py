"""What every process uses; all of `ingest` that `handlers` may import, but for the composition root of the agents.

settings            the environment, read once
local_stack         the stack of this machine: its folder, and its settings for commands that work on it
settings_base       what every group of settings is made of
retention_settings  the group of retention
author_environment  the environment of a process that runs an author's code
agents_settings     the group of `slotwire agents run`
meetings_settings   the group of the events about scheduled events
agent_settings      the settings of shipped agents, for each organization
mcp_settings        the group of `slotwire mcp serve`
migrate_settings    the group of `slotwire migrate`
oauth_settings      the group of the OAuth app
subscriptions_settings  the group of the subscription manager
changes_settings    the group of the search for changes
reconcile_settings  the group of `control`'s fetches
actions_settings    the group of actions
outgoing_settings   the group of requests to receivers of webhooks
mail_settings       the group of mail that agents send
errors              the root of our exceptions, and those raised here
key_texts           keys from the settings: decoded and checked
sealing             secrets for one place, encrypted with named keys
clock               the time, as an argument
telemetry           loggers, and metrics, declared in one list
calendly_metrics    its metrics of calls to Calendly
agent_metrics       its metrics of agents' scheduled work, and of their runs as `control` reads them
erasure_metrics     its metrics of erasures
outgoing_metrics    its metrics of requests to receivers
outgoing            requests to addresses that somebody else names: guarded, limited, signed
mcp_events_metrics  its metrics of MCP Events
mcp_metrics         its metrics of the MCP server
mail_message        a mail as a message (pure)
mail                sends it by SMTP
throttle            log lines that strangers can cause: a few, with a count of the rest
log_output          where log lines go, and in which form
exposition          which process shows which metric, and readings that vanish when they are too old
tracing             the trace of each delivery, and spans where somebody collects them
operation_table     all 77 operations of Calendly, with what each takes and needs
control_client      asks `control` to call Calendly for an event
lifecycle           start, stop, named tasks
chores              what a process does again and again beside its work
defects             what a log line says of an exception that nobody foresaw
printable           texts of strangers, for a terminal
open_files          how many files and sockets may be open, and how many connections fit (with its limit raised)
open_connections    how many connections a listener has, and which one gives way to a newcomer
guarded_connection  one connection, with limits on time and octets
refused_addresses   what refusals cost one address that sends bad keys
listener            opens a port with these limits
client_address      who sent a request, behind proxies (pure)
health              the health port: `/livez`, `/readyz`, `/metrics`
measured_pool       a pool that tells how long its users wait
postgres            pools and connections with limits, named SQL, calls that commit
postgres_address    the hosts of an address, and whether they are encrypted
postgres_tls        TLS to Postgres, of the address and of the settings
postgres_hosts      a connection to the first host that takes writes
postgres_session    a session that is ours alone, and is dropped when it cannot work
postgres_transaction a transaction that takes as few round trips as can be
event_rows          an event's context, of its row in the log
postgres_errors     asyncpg's errors translated
network_errors      what goes wrong with TLS, in words
postgres_readiness  whether Postgres takes writes and has this version's schema
migrations          applies the migration files, and compares a database with them
index_builds        those that run outside a transaction, and go on from wherever they were cut off
schema_locks        one `migrate` at a time, whose locks nobody has to wait for
kafka               which topics exist, aiokafka's errors translated
kafka_connection    how to reach the broker, judged before anything connects
kafka_diagnosis     why no broker lets us in
kafka_token         tokens for SASL/OAUTHBEARER
kafka_records       reads records whatever their headers are called
topic_admin         creates the topics, and compares them with the settings
"""
