"""Care: what is done to a ship's state so that it lasts for years.

One file an operation, each `async def verb(ground, arguments, progress)` that
returns what --json prints (contract: ground.py). The same operation works on a
live ship (live.py, by way of the control socket) and on one at rest (rest.py).
A new one is a file here and an entry in verbs.py.

May call: what the king's other rooms offer. It decides nothing about events.
"""
