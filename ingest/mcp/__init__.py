"""What agents reach by the Model Context Protocol: tools, and bookings as MCP Events.

principal  whom a request acts for: an agent, and the connected user it has been given
events/    bookings as MCP Events
"""
