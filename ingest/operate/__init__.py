"""What operators do, by command and by HTTP: each verb once, in `actions`, with its authorisation."""
