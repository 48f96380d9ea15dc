"""The event log: the only writer beneath `.urb/log`."""
