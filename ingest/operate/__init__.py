"""What operators do, by command and by HTTP.

actions/         each operation once, with its authorisation and its audit; commands and routes call it
routes/          the management API's routes, one file per resource, as one table
admin_api        serves the table over HTTP: authentication, limits, idempotency, errors as problem+json
openapi          makes the OpenAPI document from the table
problems         turns an error into problem+json, with a status and a `code`
models           what the API takes and gives: events, deliveries, keys, problems; the base of the other models
*_models         the same for the resource in the file's name
roles            who acts, with which role, on which organization
audit            rows that say who changed what
idempotency      repeated requests with an `Idempotency-Key`, and their stored responses
cursors          cursors of paged lists
key_lookup       whose key a request came with
refusals         what refusals cost: slow answers to bad keys, and few rows of the audit
api_keys         keys of the management API, of which only a hash is stored
log_pages        pages of events
delivery_pages   pages of deliveries
quarantine_pages what waits in quarantine, and what becomes of it
dead_letter_pages pages of dead letters
run_pages        pages of agents' runs, with their journals
schedule_pages   pages of agents' scheduled work
approval_pages   pages of what agents ask somebody to decide
agent_settings_pages what agents that come with Slotwire do, for each organization
agent_filter     which of an agent's things a page has
uses             what was done with customers' credentials
narrowing        what a list says that took too long
booking_pages    pages of bookings, and the timeline of one
mcp_agents       agents of MCP, of whose secrets only a hash is stored
mcp_subscriptions  what they have subscribed to, without secrets and addresses
vault_rotation   encrypts all secrets with the vault's first key
privileges       its checks of functions, roles and logins in the database
doctor           checks an installation, or what one process needs, and says what to do
doctor_network   its checks of Kafka, and of what goes over a network
doctor_organizations its checks of each organization
doctor_agents    its checks of what agents gave up, wait for and can read
doctor_availability its check of when users can be booked
doctor_schedules its check of scheduled work
findings         what a check finds, and which checks a process needs
process          composition root of `slotwire control`, and the pool of a command
"""
