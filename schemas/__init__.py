"""The contract: what Calendly sends, what Slotwire publishes, and how it travels. Pure; imports nothing of ours.

ids        identifiers: event ids, chain keys, shards
calendly   what they send about bookings: lenient, in the provider's words
resources  what they send about everything else
events     what we publish: frozen, versioned, one class a type
envelope   an event as a consumer holds it
topics     which type goes where, under which key
codec      CloudEvents 1.0 over Kafka, binary mode
"""
