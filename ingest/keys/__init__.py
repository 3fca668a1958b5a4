"""What the request path and `control` share of secrets.

server_keys   keys from the settings
hooks         our addresses: a random id and a truncated HMAC
vault_keys    where the vault's keys come from
vault         seals and opens secrets
signing_keys  a subscription's keys, sealed in Postgres
"""
