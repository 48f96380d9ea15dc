------------------------------ MODULE Treadle ------------------------------
(* The king/serf protocol: events on their way from a driver into the log,  *)
(* and effects on their way out; deaths of king, serf and disk.             *)
(*                                                                          *)
(* What it decides (prose in ARCHITECTURE.md):                              *)
(*   - What a dead serf answered is committed before the next serf replays  *)
(*     the log; its pipe is emptied (heard or dropped: both are right, since*)
(*     an answer not heard counts as not answered).                         *)
(*   - What was sent and not answered is offered again, in its old order,   *)
(*     before anything newer.                                               *)
(*   - A save is asked for only at a wall: nothing unanswered, nothing      *)
(*     uncommitted. So snap <= log needs no further rule.                   *)
(*   - Effects are at most once: a king that dies between commit and        *)
(*     release loses them, and nobody releases them later.                  *)
(*                                                                          *)
(* An event is a natural number, its identity: 1 .. MaxOffer in order of    *)
(* offering. Its number is its place in the log. Events in Bad crash the    *)
(* kernel (and so does their %crud): they bail and leave no trace.          *)
(* Mutant = "none" is the protocol. Every other value breaks one rule, and  *)
(* must violate the property that scripts/model lists beside it.            *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS MaxOffer,   \* events that drivers will offer
          Cap,        \* messages that fit each pipe
          Bad,        \* events that bail
          SerfDeaths, KingDeaths, DiskErrors, Saves, \* budgets
          Mutant

VARIABLES
    offered,   \* how many events were offered
    queue,     \* admitted, not sent
    flight,    \* sent, not answered: in order
    to, from,  \* the pipes
    computed,  \* answered, not committed
    pending,   \* committed, effects not released: event numbers
    arena,     \* what the serf has applied
    serf,      \* "down", "replay", "live"
    king,      \* "up", "down"
    log, snap, \* durable
    out,       \* the outside world: effects released, <<number, event>>
    reported,  \* bails told to their drivers
    budget     \* deaths, disk errors and saves still to come

vars == <<offered, queue, flight, to, from, computed, pending, arena, serf, king,
          log, snap, out, reported, budget>>
volatile == <<queue, flight, to, from, computed, pending, arena, serf, king>>

Events == 1 .. MaxOffer
Work(e) == [kind |-> "work", event |-> e]
Save(n) == [kind |-> "save", num |-> n]
Done(n, e) == [kind |-> "done", num |-> n, event |-> e]
Bail(e) == [kind |-> "bail", event |-> e]
Saved == [kind |-> "saved"]

Range(s) == {s[i] : i \in DOMAIN s}
IsPrefix(a, b) == Len(a) <= Len(b) /\ \A i \in DOMAIN a : a[i] = b[i]
Rest(s) == IF s = <<>> THEN s ELSE Tail(s)
Dones(s) == SelectSeq(s, LAMBDA m : m.kind = "done")
EventsOf(s) == [i \in DOMAIN s |-> s[i].event]
NoneSaving == \A m \in Range(to) \cup Range(from) : m.kind \notin {"save", "saved"}

TypeOK ==
    /\ offered \in 0 .. MaxOffer
    /\ Len(to) <= Cap /\ Len(from) <= Cap
    /\ serf \in {"down", "replay", "live"} /\ king \in {"up", "down"}

Init ==
    /\ offered = 0 /\ queue = <<>> /\ flight = <<>> /\ to = <<>> /\ from = <<>>
    /\ computed = <<>> /\ pending = <<>> /\ arena = <<>>
    /\ serf = "replay" /\ king = "up"
    /\ log = <<>> /\ snap = <<>> /\ out = <<>> /\ reported = {}
    /\ budget = [serf |-> SerfDeaths, king |-> KingDeaths, disk |-> DiskErrors,
                 save |-> Saves]

----------------------------------------------------------------------------
(* The king.                                                                *)

Offer ==
    /\ king = "up" /\ offered < MaxOffer
    /\ offered' = offered + 1
    /\ queue' = Append(queue, offered + 1)
    /\ UNCHANGED <<flight, to, from, computed, pending, arena, serf, king, log, snap,
                   out, reported, budget>>

Send ==
    /\ king = "up" /\ serf = "live" /\ queue # <<>> /\ Len(to) < Cap
    /\ NoneSaving
    /\ to' = Append(to, Work(Head(queue)))
    /\ flight' = Append(flight, Head(queue))
    /\ queue' = Tail(queue)
    /\ UNCHANGED <<offered, from, computed, pending, arena, serf, king, log, snap, out,
                   reported, budget>>

Receive ==
    /\ king = "up" /\ from # <<>>
    /\ Mutant = "write-before-read" => queue = <<>>
    /\ LET m == Head(from) IN
        /\ from' = Tail(from)
        /\ CASE m.kind = "done" ->
                /\ flight' = Rest(flight)
                /\ computed' = Append(computed, m)
                /\ UNCHANGED reported
             [] m.kind = "bail" ->
                /\ flight' = Rest(flight)
                /\ reported' = IF Mutant = "bail-unreported" THEN reported
                                ELSE reported \cup {m.event}
                /\ UNCHANGED computed
             [] OTHER -> UNCHANGED <<flight, computed, reported>>
    /\ UNCHANGED <<offered, queue, to, pending, arena, serf, king, log, snap, out, budget>>

(* Group commit: any number of answers from the oldest on, in one step.     *)
Commit ==
    /\ king = "up" /\ computed # <<>>
    /\ \E k \in 1 .. Len(computed) :
        LET batch == SubSeq(computed, 1, k) IN
        /\ log' = IF Mutant = "commit-hole" /\ k > 1
                  THEN log \o EventsOf(Tail(batch))
                  ELSE log \o EventsOf(batch)
        /\ computed' = SubSeq(computed, k + 1, Len(computed))
        /\ pending' = IF Mutant = "release-early" THEN pending
                      ELSE pending \o [i \in 1 .. k |-> batch[i].num]
    /\ UNCHANGED <<offered, queue, flight, to, from, arena, serf, king, snap, out,
                   reported, budget>>

Release ==
    /\ king = "up" /\ pending # <<>>
    /\ out' = Append(out, <<Head(pending), log[Head(pending)]>>)
    /\ pending' = IF Mutant = "release-twice" /\ Len(out) < 2 * MaxOffer
                  THEN pending ELSE Tail(pending)
    /\ UNCHANGED <<offered, queue, flight, to, from, computed, arena, serf, king, log,
                   snap, reported, budget>>

ReleaseEarly == \* mutant: effects leave as soon as they are computed
    /\ Mutant = "release-early" /\ king = "up" /\ computed # <<>>
    /\ \A i \in DOMAIN out : out[i][1] # Head(computed).num
    /\ out' = Append(out, <<Head(computed).num, Head(computed).event>>)
    /\ UNCHANGED <<offered, queue, flight, to, from, computed, pending, arena, serf,
                   king, log, snap, reported, budget>>

AskSave ==
    /\ king = "up" /\ serf = "live" /\ budget.save > 0 /\ Len(to) < Cap
    /\ NoneSaving
    /\ Mutant # "save-early" => flight = <<>> /\ computed = <<>>
    /\ log # <<>> \/ Mutant = "save-early"
    /\ to' = Append(to, Save(Len(log)))
    /\ budget' = [budget EXCEPT !.save = @ - 1]
    /\ UNCHANGED <<offered, queue, flight, from, computed, pending, arena, serf, king,
                   log, snap, out, reported>>

(* A dead serf: drain what it wrote, commit what it answered, start anew.   *)
Restart ==
    /\ king = "up" /\ serf = "down" /\ Mutant # "no-restart"
    /\ Mutant # "no-drain" => from = <<>>
    /\ Mutant # "restart-uncommitted" => computed = <<>>
    /\ serf' = "replay"
    /\ arena' = snap
    /\ from' = IF Mutant = "no-drain" THEN from ELSE <<>>
    /\ to' = <<>>
    /\ flight' = <<>>
    /\ queue' = CASE Mutant = "forget-flight" -> queue
                  [] Mutant = "resend-last" -> queue \o flight
                  [] OTHER -> flight \o queue
    /\ UNCHANGED <<offered, computed, pending, king, log, snap, out, reported, budget>>

KingStart ==
    /\ king = "down"
    /\ king' = "up" /\ serf' = "replay" /\ arena' = snap
    /\ pending' = IF Mutant = "release-again" /\ log # <<>> THEN <<Len(log)>> ELSE <<>>
    /\ UNCHANGED <<offered, queue, flight, to, from, computed, log, snap, out, reported,
                   budget>>

----------------------------------------------------------------------------
(* The serf.                                                                *)

Replay ==
    /\ king = "up" /\ serf = "replay" /\ Len(arena) < Len(log)
    /\ arena' = Append(arena, log[Len(arena) + 1])
    /\ UNCHANGED <<offered, queue, flight, to, from, computed, pending, serf, king, log,
                   snap, out, reported, budget>>

Live ==
    /\ king = "up" /\ serf = "replay"
    /\ \/ Len(arena) = Len(log)
       \/ Mutant = "replay-short" /\ Len(arena) + 1 = Len(log)
    /\ serf' = "live"
    /\ UNCHANGED <<offered, queue, flight, to, from, computed, pending, arena, king, log,
                   snap, out, reported, budget>>

Apply ==
    /\ serf = "live" /\ king = "up" /\ to # <<>> /\ Len(from) < Cap
    /\ Head(to).kind = "work"
    /\ LET e == Head(to).event IN
        IF e \in Bad
        THEN /\ from' = Append(from, Bail(e))
             /\ arena' = IF Mutant = "bail-applies" THEN Append(arena, e) ELSE arena
        ELSE /\ arena' = IF Mutant = "answer-unapplied" THEN arena ELSE Append(arena, e)
             /\ from' = Append(from, Done(Len(arena) + 1, e))
    /\ to' = Tail(to)
    /\ UNCHANGED <<offered, queue, flight, computed, pending, serf, king, log, snap, out,
                   reported, budget>>

DoSave == \* the superblock is one atomic write: dying before it changes nothing
    /\ serf = "live" /\ king = "up" /\ to # <<>> /\ Len(from) < Cap
    /\ Head(to).kind = "save"
    /\ snap' = IF Head(to).num = Len(arena) \/ Mutant = "save-early" THEN arena ELSE snap
    /\ to' = Tail(to)
    /\ from' = Append(from, Saved)
    /\ UNCHANGED <<offered, queue, flight, computed, pending, arena, serf, king, log, out,
                   reported, budget>>

----------------------------------------------------------------------------
(* Misfortune.                                                              *)

SerfDie == \* what it wrote stays in the pipe; what it had not read is lost
    /\ king = "up" /\ serf # "down" /\ budget.serf > 0
    /\ serf' = "down" /\ arena' = <<>> /\ to' = <<>>
    /\ pending' = IF Mutant = "drop-pending" THEN <<>> ELSE pending
    /\ budget' = [budget EXCEPT !.serf = @ - 1]
    /\ UNCHANGED <<offered, queue, flight, from, computed, king, log, snap, out,
                   reported>>

KingGone ==
    /\ king' = "down" /\ serf' = "down"
    /\ queue' = <<>> /\ flight' = <<>> /\ to' = <<>> /\ from' = <<>>
    /\ computed' = <<>> /\ pending' = <<>> /\ arena' = <<>>
    /\ UNCHANGED <<offered, log, snap, out, reported>>

KingDie ==
    /\ king = "up" /\ budget.king > 0
    /\ KingGone
    /\ budget' = [budget EXCEPT !.king = @ - 1]

DiskError == \* a commit fails: the ship stops, nothing of the batch is released
    /\ king = "up" /\ computed # <<>> /\ budget.disk > 0
    /\ IF Mutant = "go-on-after-disk-error"
       THEN /\ computed' = Tail(computed)
            /\ UNCHANGED <<offered, queue, flight, to, from, pending, arena, serf, king,
                           log, snap, out, reported>>
       ELSE KingGone
    /\ budget' = [budget EXCEPT !.disk = @ - 1]

Next ==
    \/ Offer \/ Send \/ Receive \/ Commit \/ Release \/ ReleaseEarly \/ AskSave
    \/ Restart \/ KingStart \/ Replay \/ Live \/ Apply \/ DoSave
    \/ SerfDie \/ KingDie \/ DiskError

(* Weak fairness on every step that is somebody's duty; none on offering,   *)
(* saving and dying, which may or may not happen.                           *)
Fairness ==
    /\ WF_vars(Send) /\ WF_vars(Receive) /\ WF_vars(Commit) /\ WF_vars(Release)
    /\ WF_vars(Restart) /\ WF_vars(KingStart) /\ WF_vars(Replay) /\ WF_vars(Live)
    /\ WF_vars(Apply) /\ WF_vars(DoSave)

Spec == Init /\ [][Next]_vars /\ Fairness

----------------------------------------------------------------------------
(* Safety.                                                                  *)

Chain == (king = "up" /\ serf = "live") =>
    arena = log \o EventsOf(computed) \o EventsOf(Dones(from))

PersistBeforeEffects ==
    \A i \in DOMAIN out : out[i][1] <= Len(log) /\ log[out[i][1]] = out[i][2]

AtMostOnce == \A i, j \in DOMAIN out : i < j => out[i][1] < out[j][1]

SnapInLog == IsPrefix(snap, log)

Everywhere == log \o EventsOf(computed) \o EventsOf(Dones(from))
Injective ==
    /\ \A i, j \in DOMAIN Everywhere : i # j => Everywhere[i] # Everywhere[j]
    /\ \A e \in Range(Everywhere) : e <= offered /\ e \notin Bad

KingNeverDied == budget.king = KingDeaths /\ budget.disk = DiskErrors
Held == <<queue, flight, EventsOf(computed), log>>
Conserved == KingNeverDied =>
    /\ 1 .. offered = UNION {Range(Held[i]) : i \in DOMAIN Held} \cup reported
    /\ offered = Len(queue) + Len(flight) + Len(computed) + Len(log)
                 + Cardinality(reported)

InOrder == KingNeverDied => \* events are logged in the order of their offering
    \A i, j \in DOMAIN log : i < j => log[i] < log[j]

NoDeadlock == (king = "up" /\ serf = "live" /\ Len(to) = Cap /\ Len(from) = Cap)
    => ENABLED Receive

LogGrows == [][IsPrefix(log, log')]_vars

(* Liveness.                                                                *)

Durable == \A e \in Events :
    [](e \in Range(queue) \cup Range(flight) =>
        <>(e \in Range(log) \/ e \in reported \/ king = "down"))
Released == \A n \in Events :
    [](Len(log) >= n /\ n \in Range(pending) =>
        <>((\E i \in DOMAIN out : out[i][1] = n) \/ king = "down"))
Recovered == [](serf = "down" => <>(serf = "live"))

(* Reachability: each of these must be *violated*, or the model is vacuous. *)

NeverAllOut == Len(out) < MaxOffer - Cardinality(Bad)
NeverSavedWhole == snap = <<>> \/ Len(snap) < Len(log)
NeverReplaysTail == ~(serf = "replay" /\ snap # <<>> /\ Len(arena) > Len(snap))
NeverLostEffects ==
    ~(king = "up" /\ pending = <<>> /\ computed = <<>> /\ Len(log) > Len(out))
NeverFullBoth == ~(Len(to) = Cap /\ Len(from) = Cap)
NeverBails == reported = {}
=============================================================================
