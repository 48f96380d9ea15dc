"""The crash lab: what a pier can suffer, and whether the ship recovers.

witness   records a run's file operations, and makes one of them fail
states    from a record, the directory trees that a power cut could leave
judge     opens such a tree as a start would, and holds it against the law
scenario  what people do to a ship, one small file each (`scenarios/`)
pair      a whole king and serf under the witness
trial     one fault in one scenario, and the recovery from it
damage    piers with flipped bits and misdirected pages
enemy     a serf that lies
cuts      real power cuts of a mounted filesystem
blocks    every disk that a power cut could leave under one; `fuse_disk` logs it
protocol  the model, running: judges what king and serf noted of themselves
session   a round: one scenario, one seed, all of the above
zygote    where kings come from quickly
ledger    what was tried so far; `report` makes a page of it
command   `treadle lab`
"""
