"""The contract: the payloads Calendly sends, the events Slotwire publishes, and their form on Kafka.

Pure: it imports nothing else of Slotwire, and only pydantic besides the standard library.

ids        identifiers: event ids, chain keys, shards
calendly   Calendly's payloads about bookings: lenient, in Calendly's words
resources  Calendly's payloads about everything else
event_data what every event is
operations the events about Slotwire itself
meetings   the events about scheduled events that Slotwire derives
changes    the event about changes of scheduled events that Calendly does not tell
events     the events we publish: frozen, versioned, one class per type
availability  when users can be booked: the records of a compacted topic
envelope   an event with its context, as a consumer gets it
topics     the topics, and the key of each
codec      CloudEvents 1.0 over Kafka, binary mode
"""

if __name__ not in ("slotwire.schemas", "slotwire_schemas"):  # the second name is that of the wheel `slotwire-schemas`
    # From the repository's root `import schemas` would find this folder and load everything a second time.
    raise ImportError(f"this package is slotwire.schemas, not {__name__}: import it under that name")
