"""Scenarios of the lab; king/lab/scenario.py says what one is."""
