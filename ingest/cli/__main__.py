"""Runs the command: `python -m slotwire.ingest.cli`."""

from slotwire.ingest.cli import main

main()
