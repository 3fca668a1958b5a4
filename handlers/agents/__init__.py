"""Agents that come with Slotwire: one module each, with an `agent` in it."""
