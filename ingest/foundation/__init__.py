"""What every process stands on: settings, Postgres, Kafka, telemetry, health, lifecycle, clock.

This package is all of `ingest` that `handlers` may import.
"""
