"""A member of the consumer group: it reads records and commits what is settled.

member            the member of the consumer group
membership        what its membership is to be
reading           hands over what it reads as there is room
careful_consumer  the client that reads records, with guards against its faults
watch             whether the consumer makes progress
groups            asks for a consumer group without joining it
placement         where a new agent begins, once
offsets           moves where a stopped agent continues
"""
