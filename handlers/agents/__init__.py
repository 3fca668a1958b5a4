"""Agents that come with Slotwire, one file each, each with an `agent`."""
