"""Tools: what an agent can read and do, each described once.

words     what the tools of Calendly's operations are called, and what is said of them and their arguments
table     every tool: its description, its schemas, and which presets have it
results   what a tool answers, with the texts of strangers marked
toolbox   lists the tools that a principal has, and runs no other
calls     Calendly's operations, through `control`
deeds     book, cancel, reschedule, mark and clear: once for each key
every     the names of all tools
happenings events as tools, for hosts that know no MCP Events
own       bookings with their timeline, the health of subscriptions, what waits for a person
"""
