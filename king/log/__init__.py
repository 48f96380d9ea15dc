"""The event log: the only writer beneath `.urb/log`.

Start with `store.EventLog`: all that the rest of the king may know of it.
"""
