"""What every process uses; all of `ingest` that `handlers` may import, but for the composition root of the agents.

settings            the environment, read once
settings_base       what every group of settings is made of
retention_settings  the group of retention
errors              the root of our exceptions, and those raised here
clock               the time, as an argument
telemetry           logs and metrics, declared in one list
lifecycle           start, stop, named tasks
open_files          how many files and sockets may be open, and how many connections fit (with its limit raised)
open_connections    how many connections a listener has, and which one gives way to a newcomer
guarded_connection  one connection, with limits on time and octets
listener            opens a port with these limits
client_address      who sent a request, behind proxies (pure)
health              the health port: `/livez`, `/readyz`, `/metrics`
postgres            connections with limits, named SQL, asyncpg's errors translated
postgres_readiness  whether Postgres answers and has this version's schema
migrations          applies the migration files, and compares a database with them
kafka               how to reach the broker, which topics exist, aiokafka's errors translated
topic_admin         creates the topics, and compares them with the settings
"""
