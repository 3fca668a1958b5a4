"""The contract: what Calendly sends, what Slotwire publishes, and how it travels. Pure; imports nothing of ours.

ids        identifiers: event ids, chain keys, shards
calendly   what they send about bookings: lenient, in the provider's words
resources  what they send about everything else
events     what we publish: frozen, versioned, one class a type
envelope   an event as a consumer holds it
topics     which type goes where, under which key
codec      CloudEvents 1.0 over Kafka, binary mode
"""

if __name__ not in ("slotwire.schemas", "slotwire_schemas"):  # the second name is that of the wheel `slotwire-schemas`
    # From the repository's root `import schemas` would find this folder and load everything a second time.
    raise ImportError(f"this package is slotwire.schemas, not {__name__}: import it under that name")
