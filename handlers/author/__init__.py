"""The author's loop: a new project, the local stack, past events, an agent's own tables.

shown_runs   a line an event, for the author's eyes
tables       an agent's own tables: schema, role, migrations
new_project  makes the project of a new agent, from project_template
alone        lets one process alone run an agent while it is written
dev          runs an agent on the local stack, again after each change
past_events  runs one past event, and rolls its effects back
author_cli   `slotwire agents new|dev|try|migrate` and the rest of the loop
"""
