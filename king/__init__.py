"""The trio daemon: owns the pier, the event log and the outside world."""
