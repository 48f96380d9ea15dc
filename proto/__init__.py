"""What king and serf say to each other, and nouns as Python values.

Owns nothing, does no I/O, keeps no state. May import msgpack and the
standard library only (and `proto._codec`, its own small C twin).
"""
