"""The embedded stack: real PostgreSQL and real Apache Kafka on this machine, from packages, without Docker.

`stack` starts both and yields their addresses; `supervisor` runs Slotwire's own processes on top of them for
`slotwire local`. Nothing in production imports this package.
"""
