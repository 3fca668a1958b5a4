"""Calendly's webhook signature, written from the facts, independently of our verifier.

HMAC-SHA256 over `t`, a full stop and the body's bytes; the key is the UTF-8 form of the signing key, which is not
decoded. Source: docs/reference/calendly.md, "Webhook signature", and
https://developer.calendly.com/api-docs/overview/webhooks/webhook-signatures
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Calendly-Webhook-Signature"


def signature(signing_key: str, body: bytes, at: int) -> str:
    """Return the header's value for a body signed at `at` (unix seconds)."""
    digest = hmac.new(signing_key.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
