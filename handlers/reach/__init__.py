"""What a handler reaches: bookings, the chain's state, Calendly, and the MCP server.

chains    the bookings of an event's chain, and what the agent remembers of it
bookings  the bookings of an event's organization, beyond its chain
calendly  calls to Calendly for an event, through `slotwire control`
mcp_tokens  a token of the MCP server that ends with the run
"""
