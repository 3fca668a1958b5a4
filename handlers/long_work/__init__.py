"""Runs with a journal: steps, waits and approvals that outlive a process.

steps             one run with a journal: its steps and waits
approvals         a run that waits for somebody's decision
endings           how such a run ends before its handler does
functions         what an author gives to steps and waits
journal           what is kept of a run
versions          how a version takes over the runs of another
postgres_journal  where it is kept
trial_journal     where it is kept in a trial
"""
