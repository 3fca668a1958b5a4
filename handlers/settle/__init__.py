"""What is done and what was given up: offsets, the inbox, dead letters, what is handled later.

ledger        which offset may be committed
inbox         which events are done, in Postgres
dead_letters  records that were given up, in Kafka
letters       the same in Postgres, for operators
agent_queue   records that are handled later, in Postgres
noted_runs    which runs may have ended processes
trial_inbox   the inbox of a trial
"""
