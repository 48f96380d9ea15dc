"""Pill formats; the embedded kernel and the compiler that makes it."""
