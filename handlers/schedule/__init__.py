"""What fires by the clock or at a moment of a booking, once.

due_firings     what is due now, and how far its schedule moves on by that
fire            puts it into the agent's queue, in one process at a time
schedule_store  what Postgres keeps of schedules
trial_firings   the firings of a trial
"""
