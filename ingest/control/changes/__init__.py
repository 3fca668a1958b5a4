"""Changes of upcoming meetings that Calendly sends no webhook for: found by listing and comparing, told as events.

meeting_facts   pure: what is compared of a scheduled event, and the event about a difference
sweep_records   how far the sweep of each organization is, and what is known of meetings, as stored
sweep           compares one organization's upcoming meetings
sweep_rounds    a chore: sweeps the organizations that are due
"""
