"""Explicit-state model checker of the session ownership protocol (docs/ownership.md).

One session; L (a SQL row and a control row) and R (one or two Redis servers). Every operation is a process that
performs one atomic store step at a time. The checker explores every interleaving of the processes of a scenario,
breadth first, until no new state appears.

What needs no transition of its own, because every search contains it already:

- flags: whenever an operation starts or starts again it may take the path of home redis or of home legacy, so every
  host's flag may flip at any time, any number of times;
- crashes, aborted requests, a store that is down for a while: a process that is not scheduled. Every property is
  checked in every state, so also in all states after which a process never moves again;
- stale batches: any steps of others may come between a mover's read, its claim and its puts;
- a lease that ends early, a host that cannot reach R: a read of R that is not scheduled.

The only bound of a search is its list of processes (operations, movers, faults, operator).

Properties, checked in every state and on every step (`properties.py`, `alone.py`):

a. every step leaves the session's abstract value alone or is the one effect of its own operation, every answer is the
   value at that instant, and every acknowledged write is in the value: linearizable
b. a session that was deleted, or reported absent, never exists again
c. R accepts writes only while L says that R owns the session, and the other way round
d. a read that runs alone answers the same value with the flag on and with the flag off
e. from every state the session moves to R and to L; no operation, alone, is stuck or goes round for ever
f. unless L is retired, the row in L alone contains every acknowledged write

`make model` runs the default scenarios and takes each guard away; `make model-deep` runs the larger scenarios as well.
"""
