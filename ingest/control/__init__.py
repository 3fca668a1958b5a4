"""What Slotwire does at Calendly: keep secrets, speak the REST API, create and end subscriptions."""
