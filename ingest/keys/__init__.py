"""Secrets and hook addresses that both the request path and `control` use.

hooks         our addresses: a random id and a truncated HMAC of it
vault_keys    where the vault's keys come from: environment, file or provider
vault         seals and opens secrets with these keys
signing_keys  a subscription's signing keys, sealed in Postgres
"""
