"""A small Calendly: REST v2, webhook subscriptions and a signed sender with Calendly's retry rules.

It shares no code with the service it exercises (only `ingest/foundation` and `ingest/errors.py`): its signature,
payloads and error bodies are written a second time from the same facts, so that they check ours.

    app ──▶ rest (what Calendly's API offers) ─┐
       └──▶ control (/simulator/…, ours)  ─────┴─▶ engine ──▶ store (SQLite)
                    └─▶ scenarios (load, story) ─▶ engine ──▶ sender ──HTTP──▶ subscribers, loopback only
"""
