"""Slotwire's one import namespace; each package in it is a folder at the top of the repository, linked here."""
