"""From Calendly's webhook to Kafka: receive → verify → normalize → join → store → relay.

One stage, one file. `pipeline.py` is the sentence; ARCHITECTURE.md tells the way of one delivery.
"""
