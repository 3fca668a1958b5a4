"""What every process uses; all of `ingest` that `handlers` may import, but for the composition root of the agents.

settings            the environment, read once
settings_base       what every group of settings is made of
retention_settings  the group of retention
errors              the root of our exceptions, and those raised here
clock               the time, as an argument
telemetry           logs and metrics, declared in one list
lifecycle           start, stop, listeners, named tasks
health              the health port: `/livez`, `/readyz`, `/metrics`
postgres            connections with limits, named SQL, asyncpg's errors translated
postgres_readiness  whether Postgres answers and has this version's schema
migrations          applies the migration files, and compares a database with them
kafka               how to reach the broker, which topics exist, aiokafka's errors translated
topic_admin         creates the topics, and compares them with the settings
"""
