"""What the agents that come with Slotwire stand on: what they do is set, not written.

agent       agents that come with Slotwire: what they do is set, not written
settings    where they find what was set
attendance  who came to a meeting, for no_show_sweeper
digest      what nightly_digest says, and how
"""
