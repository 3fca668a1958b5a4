"""From the socket to the commit: what `slotwire serve` runs. It verifies and commits bodies, and reads none of them.

listener      the public port, and a stop that resets nobody
endpoint      answers `POST /hooks/calendly/{hook}`: find whose hook it is, verify, accept; counts, gives one response
hook_lookup   finds the tenant of a hook and its signing keys
verify        checks a signature (pure), and makes a `VerifiedDelivery`
hook_troubles which valid hooks had to be answered other than 2xx, told when Postgres allows
group_commit  commits webhooks that arrive together in one call of `accept`
accept        the door: commits whatever is to become events, for `serve` and for everybody else
process       composition root of `slotwire serve`
"""
