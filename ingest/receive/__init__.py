"""From the socket to the commit: what `slotwire serve` runs.

listener     limits connections: how many, how long, how large a header
endpoint     answers `POST /hooks/calendly/{hook}`: limits the body, counts, gives one response
pipeline     the request path in one sentence: find the tenant, verify, store
hook_lookup  finds the tenant of a hook and its signing keys
verify       checks a signature (pure), and makes a `VerifiedDelivery`
process      composition root of `slotwire serve`
"""
