"""A member of the consumer group: it reads records and commits what is settled.

member            the member of the consumer group
careful_consumer  the client that reads records, with guards against its faults
watch             whether the consumer makes progress
groups            speaks for a consumer group without joining it
placement         where a new agent begins
offsets           moves where a stopped agent continues
"""
