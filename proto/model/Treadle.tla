------------------------------ MODULE Treadle ------------------------------
(* The king/serf protocol: events on their way from a driver into the log,  *)
(* and effects on their way out; deaths of king, serf and disk.             *)
(*                                                                          *)
(* What it decides (prose in ARCHITECTURE.md):                              *)
(*   - What a dead serf answered is committed before the next serf replays  *)
(*     the log; its pipe is emptied (heard or dropped: both are right, since*)
(*     an answer not heard counts as not answered).                         *)
(*   - What was sent and not answered is sent again, in its old order,      *)
(*     before anything newer.                                               *)
(*   - A save is asked for only at a wall: nothing unanswered, nothing      *)
(*     uncommitted. So snap <= log needs no further rule. Events are sent   *)
(*     behind it at once: the serf saves what it was, beside what it does,  *)
(*     and answers when it has, out of turn.                                *)
(*   - A serf may start from any older snapshot, and decline a save.        *)
(*   - A commit that failed may have become durable nevertheless: its king  *)
(*     is gone, the next one believes the log.                              *)
(*   - Effects are at most once: a king that dies between commit and        *)
(*     release loses them, and nobody releases them later.                  *)
(*                                                                          *)
(* An event is a natural number, its identity: 1 .. MaxOffer in order of    *)
(* offering; its lane (driver) follows from it, and only within a lane is   *)
(* the order of offering kept. Its number is its place in the log. Events   *)
(* in Bad crash the kernel (and so does their %crud): they bail and leave   *)
(* no trace.                                                                *)
(* king/lab/protocol.py is the same relation in Python: recordings of real  *)
(* runs are judged by it, and a test walks both side by side.               *)
(* Mutant = "none" is the protocol. Every other value breaks one rule, and  *)
(* must violate the property that scripts/model lists beside it.            *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS MaxOffer,   \* events that drivers will offer
          Cap,        \* messages that fit each pipe
          Bad,        \* events that bail
          Lanes,      \* drivers
          SerfDeaths, KingDeaths, DiskErrors, Saves, Drops, \* budgets
          Mutant

VARIABLES
    offered,   \* how many events were offered
    queue,     \* admitted, not sent
    again,     \* was in flight when a serf died: to be sent first
    flight,    \* sent, not answered: in order
    to, from,  \* the pipes
    computed,  \* answered, not committed
    pending,   \* committed, effects not released: event numbers
    arena,     \* what the serf has applied
    frozen,    \* what it is saving, beside what it applies: <<arena>> or <<>>
    serf,      \* "down", "spawned", "replay", "live"
    king,      \* "up", "down"
    log, snap, \* durable
    out,       \* the outside world: effects released, <<number, event>>
    reported,  \* bails and refusals, told to their drivers
    budget     \* deaths, disk errors, saves and refusals still to come

vars == <<offered, queue, again, flight, to, from, computed, pending, arena, frozen,
          serf, king, log, snap, out, reported, budget>>

Events == 1 .. MaxOffer
Work(e) == [kind |-> "work", event |-> e]
Save(n) == [kind |-> "save", num |-> n]
Done(n, e) == [kind |-> "done", num |-> n, event |-> e]
Bail(e) == [kind |-> "bail", event |-> e]
Saved == [kind |-> "saved"]
Lane(e) == e % Lanes

Range(s) == {s[i] : i \in DOMAIN s}
IsPrefix(a, b) == Len(a) <= Len(b) /\ \A i \in DOMAIN a : a[i] = b[i]
Rest(s) == IF s = <<>> THEN s ELSE Tail(s)
First(s, k) == SubSeq(s, 1, k)
Without(s, i) == SubSeq(s, 1, i - 1) \o SubSeq(s, i + 1, Len(s))
Dones(s) == SelectSeq(s, LAMBDA m : m.kind = "done")
Answers(s) == SelectSeq(s, LAMBDA m : m.kind \in {"done", "bail"})
Works(s) == SelectSeq(s, LAMBDA m : m.kind = "work")
EventsOf(s) == [i \in DOMAIN s |-> s[i].event]
NoneSaving ==
    /\ frozen = <<>>
    /\ \A m \in Range(to) \cup Range(from) : m.kind \notin {"save", "saved"}

TypeOK ==
    /\ offered \in 0 .. MaxOffer
    /\ Len(to) <= Cap /\ Len(from) <= Cap
    /\ serf \in {"down", "spawned", "replay", "live"} /\ king \in {"up", "down"}

Init ==
    /\ offered = 0 /\ queue = <<>> /\ again = <<>> /\ flight = <<>>
    /\ to = <<>> /\ from = <<>> /\ computed = <<>> /\ pending = <<>> /\ arena = <<>>
    /\ frozen = <<>> /\ serf = "spawned" /\ king = "up"
    /\ log = <<>> /\ snap = <<>> /\ out = <<>> /\ reported = {}
    /\ budget = [serf |-> SerfDeaths, king |-> KingDeaths, disk |-> DiskErrors,
                 save |-> Saves, drop |-> Drops]

----------------------------------------------------------------------------
(* The king.                                                                *)

Offer ==
    /\ king = "up" /\ offered < MaxOffer
    /\ offered' = offered + 1
    /\ queue' = Append(queue, offered + 1)
    /\ UNCHANGED <<again, flight, to, from, computed, pending, arena, serf, king,
                   log, snap, out, reported, budget, frozen>>

Launch(e) == to' = Append(to, Work(e)) /\ flight' = Append(flight, e)

Send == \* what was sent before goes first; else the oldest of any lane
    /\ king = "up" /\ serf = "live" /\ Len(to) < Cap
    /\ \/ /\ again # <<>>
          /\ Launch(Head(again)) /\ again' = Tail(again)
          /\ UNCHANGED queue
       \/ /\ again = <<>>
          /\ \E i \in DOMAIN queue :
                /\ \A j \in 1 .. i - 1 : Lane(queue[j]) # Lane(queue[i])
                /\ Launch(queue[i]) /\ queue' = Without(queue, i)
          /\ UNCHANGED again
    /\ UNCHANGED <<offered, from, computed, pending, arena, serf, king, log, snap,
                   out, reported, budget, frozen>>

GiveUp == \* refused or quarantined: told to its driver, and never applied again
    /\ king = "up" /\ budget.drop > 0
    /\ \E e \in Events :
        /\ \/ \E i \in DOMAIN queue :
                 queue[i] = e /\ queue' = Without(queue, i)
                 /\ UNCHANGED <<again, flight>>
           \/ \E i \in DOMAIN again :
                 again[i] = e /\ again' = Without(again, i)
                 /\ UNCHANGED <<queue, flight>>
           \/ /\ serf = "down"
              /\ Mutant # "give-up-unheard" => from = <<>>
              /\ \E i \in DOMAIN flight :
                 flight[i] = e /\ flight' = Without(flight, i)
                 /\ UNCHANGED <<queue, again>>
        /\ reported' = reported \cup {e}
    /\ budget' = [budget EXCEPT !.drop = @ - 1]
    /\ UNCHANGED <<offered, to, from, computed, pending, arena, serf, king, log,
                   snap, out, frozen>>

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
    /\ UNCHANGED <<offered, queue, again, to, pending, arena, serf, king, log, snap,
                   out, budget, frozen>>

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
    /\ UNCHANGED <<offered, queue, again, flight, to, from, arena, serf, king, snap,
                   out, reported, budget, frozen>>

Release ==
    /\ king = "up" /\ pending # <<>>
    /\ out' = Append(out, <<Head(pending), log[Head(pending)]>>)
    /\ pending' = IF Mutant = "release-twice" /\ Len(out) < 2 * MaxOffer
                  THEN pending ELSE Tail(pending)
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, arena, serf,
                   king, log, snap, reported, budget, frozen>>

ReleaseEarly == \* mutant: effects leave as soon as they are computed
    /\ Mutant = "release-early" /\ king = "up" /\ computed # <<>>
    /\ \A i \in DOMAIN out : out[i][1] # Head(computed).num
    /\ out' = Append(out, <<Head(computed).num, Head(computed).event>>)
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, pending,
                   arena, serf, king, log, snap, reported, budget, frozen>>

AskSave ==
    /\ king = "up" /\ serf = "live" /\ budget.save > 0 /\ Len(to) < Cap
    /\ NoneSaving
    /\ Mutant # "save-early" => flight = <<>> /\ again = <<>> /\ computed = <<>>
    /\ to' = Append(to, Save(Len(log)))
    /\ budget' = [budget EXCEPT !.save = @ - 1]
    /\ UNCHANGED <<offered, queue, again, flight, from, computed, pending, arena,
                   serf, king, log, snap, out, reported, frozen>>

(* A dead serf: drain what it wrote, commit what it answered, start anew.   *)
Restart ==
    /\ king = "up" /\ serf = "down" /\ Mutant # "no-restart"
    /\ Mutant # "no-drain" => from = <<>>
    /\ Mutant # "restart-uncommitted" => computed = <<>>
    /\ serf' = "spawned"
    /\ from' = IF Mutant = "no-drain" THEN from ELSE <<>>
    /\ to' = <<>>
    /\ flight' = <<>>
    /\ again' = IF Mutant \in {"forget-flight", "resend-last"} THEN again
                ELSE flight \o again
    /\ queue' = IF Mutant = "resend-last" THEN queue \o flight ELSE queue
    /\ UNCHANGED <<offered, computed, pending, arena, king, log, snap, out,
                   reported, budget, frozen>>

KingStart ==
    /\ king = "down"
    /\ king' = "up" /\ serf' = "spawned"
    /\ pending' = IF Mutant = "release-again" /\ log # <<>> THEN <<Len(log)>> ELSE <<>>
    /\ log' = IF Mutant = "forget-tail" /\ log # <<>>
              THEN First(log, Len(log) - 1) ELSE log
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, arena, snap,
                   out, reported, budget, frozen>>

----------------------------------------------------------------------------
(* The serf.                                                                *)

Load == \* the newest snapshot, or an older one, or none
    /\ king = "up" /\ serf = "spawned"
    /\ \E n \in 0 .. Len(snap) : arena' = First(snap, n)
    /\ serf' = "replay"
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, pending, king,
                   log, snap, out, reported, budget, frozen>>

Replay ==
    /\ king = "up" /\ serf = "replay" /\ Len(arena) < Len(log)
    /\ arena' = Append(arena, log[Len(arena) + 1])
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, pending, serf,
                   king, log, snap, out, reported, budget, frozen>>

SaveInReplay ==
    /\ king = "up" /\ serf = "replay" /\ budget.save > 0
    /\ snap' = arena
    /\ budget' = [budget EXCEPT !.save = @ - 1]
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, pending,
                   arena, serf, king, log, out, reported, frozen>>

Live ==
    /\ king = "up" /\ serf = "replay"
    /\ \/ Len(arena) = Len(log)
       \/ Mutant = "replay-short" /\ Len(arena) + 1 = Len(log)
    /\ serf' = "live"
    /\ UNCHANGED <<offered, queue, again, flight, to, from, computed, pending,
                   arena, king, log, snap, out, reported, budget, frozen>>

Apply ==
    /\ serf = "live" /\ king = "up" /\ to # <<>> /\ Len(from) < Cap
    /\ Head(to).kind = "work"
    /\ LET e == Head(to).event IN
        IF e \in Bad
        THEN /\ from' = Append(from, Bail(e))
             /\ arena' = IF Mutant = "bail-applies" THEN Append(arena, e) ELSE arena
        ELSE /\ arena' = IF Mutant = "answer-unapplied" THEN arena ELSE Append(arena, e)
             /\ from' = Append(from, Done(Len(arena) + 1, e))
    /\ to' = IF Mutant = "answer-twice" THEN to ELSE Tail(to)
    /\ UNCHANGED <<offered, queue, again, flight, computed, pending, serf, king,
                   log, snap, out, reported, budget, frozen>>

Freeze == \* or decline
    /\ serf = "live" /\ king = "up" /\ to # <<>> /\ Len(from) < Cap
    /\ Head(to).kind = "save"
    /\ \/ /\ Head(to).num = Len(arena) \/ Mutant = "save-early"
          /\ frozen' = <<arena>> /\ UNCHANGED from
       \/ /\ from' = Append(from, Saved) /\ UNCHANGED frozen
    /\ to' = Tail(to)
    /\ UNCHANGED <<offered, queue, again, flight, computed, pending, arena, serf,
                   king, log, snap, out, reported, budget>>

DoSave == \* the superblock is one atomic write: dying before it changes nothing
    /\ serf = "live" /\ king = "up" /\ frozen # <<>> /\ Len(from) < Cap
    /\ \/ snap' = IF Mutant = "save-unfrozen" THEN arena ELSE frozen[1]
       \/ snap' = snap \* it failed
    /\ frozen' = <<>>
    /\ from' = Append(from, Saved)
    /\ UNCHANGED <<offered, queue, again, flight, to, computed, pending, arena, serf,
                   king, log, out, reported, budget>>

----------------------------------------------------------------------------
(* Misfortune.                                                              *)

SerfDie == \* what it wrote may be heard, or its end cut off; the rest is lost
    /\ king = "up" /\ serf # "down" /\ budget.serf > 0
    /\ serf' = "down" /\ arena' = <<>> /\ frozen' = <<>> /\ to' = <<>>
    /\ \E k \in 0 .. Len(from) : from' = First(from, k)
    /\ pending' = IF Mutant = "drop-pending" THEN <<>> ELSE pending
    /\ budget' = [budget EXCEPT !.serf = @ - 1]
    /\ UNCHANGED <<offered, queue, again, flight, computed, king, log, snap, out,
                   reported>>

KingGone ==
    /\ king' = "down" /\ serf' = "down"
    /\ queue' = <<>> /\ again' = <<>> /\ flight' = <<>> /\ to' = <<>> /\ from' = <<>>
    /\ computed' = <<>> /\ pending' = <<>> /\ arena' = <<>> /\ frozen' = <<>>
    /\ UNCHANGED <<offered, snap, out, reported>>

KingDie ==
    /\ king = "up" /\ budget.king > 0
    /\ KingGone /\ UNCHANGED log
    /\ budget' = [budget EXCEPT !.king = @ - 1]

DiskError == \* a commit fails, durably or not: the ship stops, none of it is released
    /\ king = "up" /\ computed # <<>> /\ budget.disk > 0
    /\ IF Mutant = "go-on-after-disk-error"
       THEN /\ computed' = Tail(computed)
            /\ UNCHANGED <<offered, queue, again, flight, to, from, pending, arena,
                           frozen, serf, king, log, snap, out, reported>>
       ELSE /\ KingGone
            /\ \E k \in 0 .. Len(computed) : log' = log \o EventsOf(First(computed, k))
    /\ budget' = [budget EXCEPT !.disk = @ - 1]

Next ==
    \/ Offer \/ Send \/ GiveUp \/ Receive \/ Commit \/ Release \/ ReleaseEarly
    \/ AskSave \/ Restart \/ KingStart
    \/ Load \/ Replay \/ SaveInReplay \/ Live \/ Apply \/ Freeze
    \/ DoSave
    \/ SerfDie \/ KingDie \/ DiskError

(* Weak fairness on every step that is somebody's duty; none on offering,   *)
(* saving, refusing and dying, which may or may not happen.                 *)
Fairness ==
    /\ WF_vars(Send) /\ WF_vars(Receive) /\ WF_vars(Commit) /\ WF_vars(Release)
    /\ WF_vars(Restart) /\ WF_vars(KingStart) /\ WF_vars(Load) /\ WF_vars(Replay)
    /\ WF_vars(Live) /\ WF_vars(Apply) /\ WF_vars(Freeze) /\ WF_vars(DoSave)

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
Held == <<queue, again, flight, EventsOf(computed), log>>
Conserved == KingNeverDied =>
    /\ 1 .. offered = UNION {Range(Held[i]) : i \in DOMAIN Held} \cup reported
    /\ offered = Len(queue) + Len(again) + Len(flight) + Len(computed) + Len(log)
                 + Cardinality(reported)

InOrder == KingNeverDied => \* a lane's events are logged in order of offering
    \A i, j \in DOMAIN log : i < j /\ Lane(log[i]) = Lane(log[j]) => log[i] < log[j]

InStep == king = "up" => \* each answer is the oldest open request's
    IF serf = "live"
    THEN EventsOf(Answers(from)) \o EventsOf(Works(to)) = flight
    ELSE IsPrefix(EventsOf(Answers(from)), flight)

NoDeadlock == (king = "up" /\ serf = "live" /\ Len(to) = Cap /\ Len(from) = Cap)
    => ENABLED Receive

LogGrows == [][IsPrefix(log, log')]_vars

(* Liveness.                                                                *)

Durable == \A e \in Events :
    [](e \in Range(queue) \cup Range(again) \cup Range(flight) =>
        <>(e \in Range(log) \/ e \in reported \/ king = "down"))
Released == \A n \in Events :
    [](Len(log) >= n /\ n \in Range(pending) =>
        <>((\E i \in DOMAIN out : out[i][1] = n) \/ king = "down"))
Recovered == [](serf = "down" => <>(serf = "live"))

(* Reachability: each of these must be *violated*, or the model is vacuous. *)

NeverAllOut == Len(out) < MaxOffer - Cardinality(Bad)
NeverSavedWhole == snap = <<>> \/ Len(snap) < Len(log)
NeverBesideASave == frozen # <<>> => arena = frozen[1]
NeverReplaysTail == ~(serf = "replay" /\ snap # <<>> /\ Len(arena) > Len(snap))
NeverLostEffects ==
    ~(king = "up" /\ pending = <<>> /\ computed = <<>> /\ Len(log) > Len(out))
NeverFullBoth == ~(Len(to) = Cap /\ Len(from) = Cap)
NeverBails == \A i \in DOMAIN from : from[i].kind # "bail"
NeverGivesUp == reported \subseteq Bad
NeverSendsAgain == again = <<>> \/ serf # "live"
NeverFallsBack == ~(serf = "replay" /\ Len(arena) < Len(snap))
NeverWholeAfterDeath == \* a serf dies, and all is logged nevertheless
    ~(KingNeverDied /\ budget.serf < SerfDeaths
      /\ Len(log) = MaxOffer - Cardinality(Bad))
NeverDurableThoughFailed == ~(budget.disk < DiskErrors /\ budget.king = KingDeaths
    /\ Len(out) < Len(log) /\ king = "down")
NeverOvertakes == \* one lane's event before an older one of another
    \A i, j \in DOMAIN flight : i < j => flight[i] < flight[j]
=============================================================================
