"""What each error code means: for `treadle explain CODE`, offline.

Owns: the words. The codes and their exit codes are in errors.py; a test holds
    the two together.
Invariants: every entry says what one sees, why it happens, and what to do
    next; none asks anyone to delete part of a pier.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["WORDS", "Words"]


class Words(NamedTuple):
    """Sentences for people."""

    symptom: str
    cause: str
    next: str


WORDS: dict[str, Words] = {
    "usage": Words(
        "The command line was not understood; nothing was done.",
        "A word, option or value is not one that the command knows.",
        "`treadle COMMAND --help` lists them.",
    ),
    "failed": Words(
        "Something ended that should have gone on.",
        "Most often a bug of treadle: a part of it crashed, and the ship stopped in "
        "order. All that was acknowledged is in the log.",
        "Start the ship again. If it comes back, report the message and the lines "
        "above it.",
    ),
    "jam-bad": Words(
        "A file or text that should be a jam is none.",
        "It was cut, or is something else; the message gives the bit at which it "
        "stops making sense.",
        "Fetch it again. `treadle noun FILE` says what is in a jam.",
    ),
    "file-bad": Words(
        "A file that was named cannot be read or written.",
        "The path is wrong, or belongs to somebody else.",
        "`ls -l` on the path that the message names.",
    ),
    "nock-crashed": Words(
        "The computation ended without a product.",
        "The formula crashed, ran out of memory or time: the mote says which, the "
        "trace where.",
        "`treadle nock --disassemble FILE` shows the programs that ran.",
    ),
    "hoon-bad": Words(
        "`treadle hoon` cannot work with what it was given.",
        "The kernel has no +wish arm that we know, or a file is missing.",
        "Give a kernel's jam with --kernel; `treadle hoon --help` says which.",
    ),
    "hoon-crashed": Words(
        "The Hoon did not parse, does not fit its types, or crashed as it ran.",
        "The trace names the place; a syntax error names line and column.",
        "Mend the text.",
    ),
    "pier-missing": Words(
        "There is no ship in the directory that was named.",
        "The path is wrong, or the ship was never booted, or its disk is not mounted.",
        "`treadle boot PIER --fake ~zod` makes a new one.",
    ),
    "pier-exists": Words(
        "Boot refuses: the directory is there already.",
        "A boot never touches what it did not make.",
        "`treadle run PIER` starts what is there; or name a new directory.",
    ),
    "pier-bad": Words(
        "The directory is not a pier, or its files are not what they should be.",
        "It has no event log, or a lock file is a link to somewhere else.",
        "Name the directory that holds `.urb`; `treadle check PIER` looks closer.",
    ),
    "pier-locked": Words(
        "Another process has this ship open.",
        "A ship may run once: two would write two histories. The message names the "
        "process; it may also be Vere.",
        "`treadle stop PIER`, or use the ship that runs. Locks of dead processes "
        "never stay.",
    ),
    "pier-newer": Words(
        "This pier was written by a newer treadle.",
        "Its format is not known here. Nothing was changed.",
        "Start it with the newer treadle.",
    ),
    "pier-copied": Words(
        "The directory is a copy of a ship: `cp`, rsync, a snapshot, a backup.",
        "Two copies that both run write two histories; a ship that speaks with others "
        "is lost then. A pier that was only renamed or moved with its disk is not "
        "taken for a copy. Nothing was changed.",
        "Run the original. If it is gone, or will never run again, `treadle adopt "
        "PIER` makes this one the ship.",
    ),
    "pier-stale": Words(
        "The pier is an older state of a ship that has lived on.",
        "A backup was copied over it, or its volume was set back: this account has "
        "run the ship further than this. Others may have heard of events that are "
        "missing here. Nothing was changed.",
        "Run the newer one. If it is lost, `treadle adopt PIER` goes on from here.",
    ),
    "manifest-bad": Words(
        "The file with the pier's identity is damaged.",
        "A disk or a hand changed it. The event log is not affected.",
        "Restore `.urb/treadle.json` alone from a copy of this pier.",
    ),
    "identity-mismatch": Words(
        "Files of two ships lie in one pier.",
        "Somebody copied a log or an image over another ship's.",
        "Restore the pier from a copy. Nothing was changed.",
    ),
    "no-permission": Words(
        "The system forbids the access.",
        "The pier belongs to another account.",
        "Run treadle as the account that owns the pier.",
    ),
    "read-only": Words(
        "The disk takes no writes.",
        "It is mounted read-only, by choice or by the system after a fault.",
        "`dmesg` says whether it was a fault; then mount it writable.",
    ),
    "network-disk": Words(
        "The pier lies on a network filesystem.",
        "The log is a memory map, and networks keep neither its locks nor its order "
        "of writes. Nothing was changed.",
        "Move the pier to a local disk.",
    ),
    "log-missing": Words(
        "The pier has no event log.",
        "The log is the ship: without it there is nothing to run.",
        "Restore the pier from a copy.",
    ),
    "log-gap": Words(
        "Events are missing between two that are there.",
        "An epoch was removed by hand, or a copy was not whole.",
        "Restore the missing epoch from a copy; `treadle check PIER` shows what is "
        "there.",
    ),
    "log-bad": Words(
        "The log is damaged: cut short, or its parts do not fit.",
        "A copy was made while the ship ran, or the disk lost something.",
        "Restore the pier from a copy; `treadle check PIER` shows what is there.",
    ),
    "log-behind": Words(
        "The log ends before what was made of it: a snapshot, or its hash chain.",
        "An older log was put beside it, or the disk lost what it had promised to "
        "keep. The missing events were acknowledged, and others may have heard of "
        "them; going on would give their numbers to other events. Nothing was changed.",
        "Put the newer log (`.urb/log`, whole) back if there is a copy; `treadle check "
        "PIER` says whether it fits. If it is lost: `treadle export PIER FILE --saved` "
        "and `treadle import NEW FILE` go on from the snapshot, which has them; "
        "`treadle adopt PIER` goes on from the log's end, without them.",
    ),
    "log-newer": Words(
        "The log has a format that we do not know.",
        "A newer runtime wrote it. Nothing was changed.",
        "Start the pier with that runtime.",
    ),
    "log-old": Words(
        "The log has the format of an old Vere.",
        "We read it, and do not continue it.",
        "Start it once with a Vere that migrates it. `treadle check` and `treadle "
        "replay` can read it as it is.",
    ),
    "log-failed": Words(
        "A commit failed, and the ship has stopped.",
        "After a failed write or sync nobody knows what is on the disk until it is "
        "read anew; no effect of that batch went out, and nobody was told that it "
        "was done.",
        "Look at the disk (`dmesg`, free space), then start the ship again: it finds "
        "out what is durable.",
    ),
    "chop-refused": Words(
        "Nothing was removed: a chop or an archive would take what recovery needs.",
        "The newest two epochs stay, each with a verified copy of the state at its "
        "start; one of these is missing, or not good. Epochs that Vere made have none.",
        "`treadle roll PIER`, and once more after some events; then chop again.",
    ),
    "archive-exists": Words(
        "An epoch was not archived: where it should go, something else is.",
        "The directory holds the epochs of another ship, or of an older copy of this "
        "one.",
        "Give each ship a directory of its own. Nothing was removed.",
    ),
    "archive-failed": Words(
        "An epoch was not archived: the command that was to take it failed.",
        "What the command itself says stands above the message.",
        "Try the command by hand, with EPOCH and EPOCH_DIR set. Nothing was removed.",
    ),
    "log-open": Words(
        "The log cannot be opened.",
        "The message has the reason that LMDB gave.",
        "Try again; then `treadle check PIER`.",
    ),
    "lmdb-version": Words(
        "The LMDB library cannot write piers.",
        "Another format than that of 0.9 would make the log unreadable for others.",
        "Install the usual build: pip install 'lmdb>=3,<4'.",
    ),
    "meta-bad": Words(
        "The log does not say whose it is.",
        "Ship, format or length of the lifecycle are missing from its META table, or "
        "are nonsense.",
        "Restore the pier from a copy. Nothing was changed.",
    ),
    "serf-missing": Words(
        "The process that computes cannot be started.",
        "The installation is not whole.",
        "Install treadle again.",
    ),
    "serf-died": Words(
        "The process that computes has died, and could not be brought back.",
        "The message has the cause: a signal, the system's memory killer, a rotten "
        "page. A single death is mended by itself.",
        "Start the ship again; the log has all that was acknowledged. If one event "
        "kills it, its request is refused after the third death.",
    ),
    "serf-spoke-nonsense": Words(
        "The process that computes said what it must not say.",
        "King and serf are of different versions, or memory is at fault. Nothing of "
        "what it said was written.",
        "Install treadle again; test the machine's memory.",
    ),
    "image-damaged": Words(
        "A generation of the snapshot was not copied: bytes of it are not what was "
        "saved. Nothing was left where the copy should have been.",
        "The disk gives back other bytes than were written: it is failing, or "
        "somebody wrote into the file.",
        "`treadle check` names what is damaged; look at the disk's own health "
        "(smartctl, dmesg). A ship that is restarted falls back to an older "
        "generation or replays its log.",
    ),
    "image-overwritten": Words(
        "A generation of the snapshot was overwritten while it was being copied. "
        "Nothing was left where the copy should have been.",
        "The ship saved several times meanwhile, and uses the room of old "
        "generations again.",
        "Try again; through the ship's own commands saves wait for the copy.",
    ),
    "image-event-missing": Words(
        "The snapshot holds no generation of the event that was asked for.",
        "Only the last few are kept, and those that are pinned.",
        "The message lists those that are there; `newest` takes the last.",
    ),
    "pin-bad": Words(
        "A pin was not made or let go.",
        "A name is of letters, digits and -._, is used once, and there are 16 pins at "
        "most.",
        "`treadle pins PIER` lists those that are there; `treadle unpin` lets one go.",
    ),
    "replay-diverged": Words(
        "Replay came to another state than the one that was logged.",
        "The event did not compute the same twice: a defect of a runtime, this one or "
        "the one that wrote the log, or of memory.",
        "`treadle replay PIER --from-scratch --no-jets` tells a wrong jet from the "
        "rest. Report the event number and both mugs.",
    ),
    "replay-crashed": Words(
        "An event that is in the log cannot be computed.",
        "It did succeed when it was logged: less memory than then, or a defect.",
        "Replay with more memory; then report the event number and the trace.",
    ),
    "snapshot-failed": Words(
        "The state could not be saved as a snapshot.",
        "Most often there is no room on the disk. The snapshots before it are whole, "
        "and the log has everything.",
        "Free some space, then `treadle save PIER`.",
    ),
    "image-newer": Words(
        "The snapshot was written by a newer treadle.",
        "Its format is not known here. Nothing was changed.",
        "Start the pier with the newer treadle.",
    ),
    "pill-missing": Words(
        "The pill cannot be read.",
        "The path is wrong.",
        "Name an existing file with --pill, or leave it out for our own.",
    ),
    "pill-bad": Words(
        "The file is no pill that we can boot.",
        "It is cut, or something else than a pill.",
        "Fetch it again, or leave --pill out for our own.",
    ),
    "pill-ivory": Words(
        "The pill is an %ivory pill.",
        "That is a helper for a terminal, not a kernel.",
        "Boot a %pill or %cash pill (brass, solid), or leave --pill out.",
    ),
    "ship-bad": Words(
        "The name is no ship's name, or not one that can be faked.",
        "A galaxy, star, planet or moon is needed.",
        "Try --fake ~zod.",
    ),
    "boot-failed": Words(
        "The pill does not boot. Nothing was kept.",
        "One of its boot events crashed: the message says which.",
        "Is it whole, and meant for this kind of runtime? `treadle noun PILL` looks.",
    ),
    "rock-bad": Words(
        "The file is no rock, or not a whole one. Nothing was kept.",
        "It is cut, or something else than `treadle export` or Vere's `cram` wrote; "
        "or the state in it is not the one that was exported.",
        "Export it again, or fetch it again; `treadle noun FILE` says what is in it.",
    ),
    "log-file-bad": Words(
        "The file is no whole event log. Nothing was kept.",
        "It was cut, changed, or is still being written: blocks and the whole have "
        "checksums, and the message says which does not match.",
        "Export it again, or fetch it again.",
    ),
    "disk-full": Words(
        "The disk is full, and what had to be written could not be.",
        "A ship that runs refuses events before that (disk-low), and keeps a reserve "
        "for its last commits, its snapshot at the end and the next start; either "
        "there was none, or it was used up.",
        "Free some space on that disk, then do the same again. Nothing in a pier "
        "needs deleting by hand.",
    ),
    "disk-low": Words(
        "The ship did not take the event: its disk is nearly full.",
        "Below the low-water mark (64 MiB) a ship refuses new events, so that what it "
        "has taken can be logged; reading goes on. Clients of the web hear 503 with "
        "Retry-After.",
        "Free some space on the pier's disk: the ship takes events again by itself. "
        "`treadle log PIER top` says what fills the log.",
    ),
    "disk-error": Words(
        "The disk reported an error.",
        "What was written last may not be there.",
        "`dmesg` first; then start the ship, and `treadle check PIER`.",
    ),
    "not-running": Words(
        "No ship answers in this pier.",
        "It is at rest, or still starting.",
        "`treadle status PIER` tells; `treadle run PIER` starts it.",
    ),
    "still-running": Words(
        "The ship has not stopped in the time given.",
        "It is in a long event, or saving.",
        "Wait longer (--timeout); even kill -9 loses nothing that was acknowledged.",
    ),
    "conn-failed": Words(
        "Talking to the ship failed.",
        "It went away in the middle, or does not speak our words.",
        "`treadle status PIER`.",
    ),
    "conn-timeout": Words(
        "The ship does not answer in time.",
        "It may be in a long event.",
        "Try again with a longer --timeout; ctrl-c in its terminal interrupts.",
    ),
    "peek-failed": Words(
        "The kernel has no answer at that path, or crashed over it.",
        "Paths are the kernel's own.",
        "Is the path right? It is /VIEW/DESK/SPUR, such as /x//kv/name.",
    ),
    "event-failed": Words(
        "The event crashed in the kernel and is not in the log.",
        "The ship is as it was before; the message has the kernel's reason.",
        "Mend what was sent.",
    ),
    "event-dropped": Words(
        "The ship did not take the event.",
        "It is stopping, or its disk is nearly full.",
        "`treadle status PIER` says which.",
    ),
    "port-busy": Words(
        "The port is taken.",
        "Another server listens there.",
        "Choose one with --http-port, or 0 for any.",
    ),
    "care-busy": Words(
        "The ship is at another such operation.",
        "One at a time works on a ship's state: a save, a snapshot, an export, ...",
        "`treadle status PIER` shows it, and how far it is. Ctrl-c where it was asked "
        "for ends it.",
    ),
    "care-stopped": Words(
        "An operation on the ship's state was given up, for the ship stops.",
        "It leaves nothing behind, or what the next call takes up again.",
        "Do it again; with the ship at rest it works as well.",
    ),
    "care-forbidden": Words(
        "The ship refuses an operation on its state to this client.",
        "Its socket was opened to others; operations that touch files are for the "
        "ship's own account and for root.",
        "Use the account that the ship runs as.",
    ),
    "noun-bad": Words(
        "A text is not a noun as we write them.",
        "The message names the place.",
        "Nouns look like this: [1 2 %foo 'a cord' ~zod].",
    ),
}
