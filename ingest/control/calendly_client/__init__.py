"""Calendly's REST API, as far as Slotwire uses it: `transport` speaks HTTP, one file a resource."""
