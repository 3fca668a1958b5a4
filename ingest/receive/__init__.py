"""From the socket to the commit: what `slotwire serve` runs.

listener     connections: how many, how long, what a header may be
endpoint     `POST /hooks/calendly/{hook}`: bounds, one answer
pipeline     the sentence: find the tenant, verify, store
hook_lookup  whose hook is this, and which keys sign for it
verify       pure: bytes, keys and the time; makes a `VerifiedDelivery`
process      the composition root
"""
