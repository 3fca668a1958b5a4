"""What agents reach by the Model Context Protocol: tools, and bookings as MCP Events.

process    the composition root of `slotwire mcp serve`
listener   who may come in: hosts, origins, tokens; limits as on every listener
oauth      an agent's secret for a token, and what is said of that
tokens     signed by us, read by us; good for one endpoint, one agent and one user
agents     agents as they are registered, asked of Postgres for each request
asgi       from a request of aiohttp to the library's application
server     the library's server, whose tools are looked up for whoever asks
tools      what an agent can read and do
arguments  what JSON can say and nothing behind it can take
uses       the audit of what agents did
principal  whom a request acts for: an agent, and the connected user it has been given
events/    bookings as MCP Events
"""
