"""For each guard, a small scenario in which its absence is fatal, and how soon (section 11 of the protocol)."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.scenarios import TOUCH, WA, WB, WC, Scenario, scenario


class Mutation(NamedTuple):
    """One guard taken away."""

    guard: str
    length: int
    """Steps of the shortest counterexample."""
    where: str
    kinds: tuple[str, ...]

    @property
    def scenario(self) -> Scenario:
        """The search in which the guard is missed."""
        return scenario(self.where, *self.kinds)


MUTATIONS = (
    Mutation("L.claim: only what L owns", 6, "in L", (WA, WB, "move>")),
    Mutation("L.claim: not what a newer generation has written", 10, "back", (WA, "move>", "bump")),
    Mutation("L.claim: version + 1", 2, "in L", ("delete", "move>")),
    Mutation("L.cas: version", 4, "back", (WA, WB)),
    Mutation("L.cas: not expired", 3, "back", (TOUCH, "tick")),
    Mutation("L.cas: sets the generation", 9, "in R", (WA, WB, "bump")),
    Mutation("L: deleted rows stay", 12, "in R", (WA, "delete", "finalize")),
    Mutation("L.apply: version", 6, "in R", (WA, WB)),
    Mutation("L.apply: generation", 11, "in R", (WA, WB, WC, "bump")),
    Mutation("L.apply: takes the data of the marker", 2, "in R", (WA, "read")),
    Mutation("L.apply: inserts only if L is incomplete", 10, "in R", (TOUCH, "delete", "cleanup", "bump", "tick")),
    Mutation("L.insert: owner L in mirror mode only", 6, "new", ("create", "finalize")),
    Mutation("L.insert: owner R in the generation that the host knows", 4, "new", ("create", "fence")),
    Mutation("L.get: mirror mode only", 6, "new", ("create", "finalize")),
    Mutation("owner: of this generation", 3, "in R", (WA, "fence")),
    Mutation("R.get, R.kill: active records only", 7, "in L", ("delete", "read")),
    Mutation("R.put: version", 4, "in R", ("delete", "move>")),
    Mutation("R.put: not expired", 9, "in R", (TOUCH, "move>", "tick")),
    Mutation("R.put: generation key", 10, "in R", (WA, WB, "flush", "bump")),
    Mutation("R.cas: version", 4, "in R", (WA, WB)),
    Mutation("R.cas: not expired", 3, "in R", (TOUCH, "tick")),
    Mutation("R.cas: answers the mode", 13, "in R", (WA, "finalize")),
    Mutation("R.create: final mode only", 1, "new", ("create", "read")),
    Mutation("R.kill: leaves a tombstone", 4, "in R", (WA, "delete")),
    Mutation("R.kill: version + 1", 2, "in R", ("delete", "read")),
    Mutation("R.mark: version + 1", 0, "in R", (WA, "move<")),
    Mutation("R.mark: on an absent key", 7, "in L", ("delete", "read")),
    Mutation("R.mark: over an older marker", 7, "back", ("delete", "read")),
    Mutation("R.mark: generation key", 7, "in R", (WA, WB, "flush", "bump")),
    Mutation("R.mark: mirror mode only", 8, "in R", (WA, "finalize")),
    Mutation("mirror before the acknowledgement", 2, "in R", (WA, "fence")),
    Mutation("delete: in L before the acknowledgement", 5, "in R", ("delete", "fence")),
    Mutation("a tombstone is finished in L before the answer", 6, "in R", ("delete", "read", "fence")),
    Mutation("included: same generation", 10, "in R", (WA, WB, "bump")),
    Mutation("batch: the row has this version or a newer one", 3, "in R", (WA, "fence")),
    Mutation("one voluntary move per operation", 12, "in R", (WA, "read")),
    Mutation("an expired row that R owns: R decides", 9, "back", (TOUCH, "read", "tick")),
    Mutation("an expired row that R owns: looked at twice", 11, "in L", (TOUCH, "read", "cleanup", "tick")),
    Mutation("markers and tombstones live as long as the session", 6, "in R", ("delete", "move>", "tick")),
    Mutation("cleanup: asks R", 5, "in R", (TOUCH, "cleanup", "tick")),
    Mutation("cleanup: version", 10, "in R", (TOUCH, "cleanup", "bump", "tick")),
    Mutation("keys: one prefix per generation", 4, "in R", (WA, "bump")),
    Mutation("keys: one prefix per generation", 3, "in R", ("delete", "read", "fence", "bump")),
    Mutation("keys: a new prefix for every bump", 15, "in L", (WA, WB, "flush", "bump", "bump")),
    Mutation("generation key: never written again", 7, "in R", (WA, "finalize", "flush")),
    Mutation("generation key: written under the pin", 10, "in R", (WA, "rewind", "finalize")),
    Mutation("generation key: on disk before the next step", 13, "in R", (WA, "sync", "rewind", "finalize")),
    Mutation("lease", 7, "in R", ("delete", "read", "bump")),
    Mutation("lease: none while a bump is closing", 7, "in R", ("delete", "read", "bump")),
    Mutation("pin of the server", 5, "in R", ("delete", "read", "sync", "promote", "bump")),
    Mutation("pin: names the run of the server", 4, "in R", (WA, "rewind")),
    Mutation("bump: waits for the leases", 7, "in R", ("delete", "read", "bump")),
    Mutation("bump: waits for the leases", 6, "in R", ("delete", "read", "fence")),
    Mutation("bump: opens only while it is closing", 8, "in R", ("delete", "read", "bump", "cancel")),
    Mutation("bump: closing is a token, not a flag", 9, "in R", ("delete", "read", "bump", "bump", "cancel")),
    Mutation("bump: only if L is complete", 12, "in R", (WA, "finalize", "bump")),
    Mutation("control row: this generation only", 12, "in R", (WA, "finalize", "bump")),
    Mutation("hold between mirror and final", 6, "new", ("create", "finalize")),
    Mutation("final: only after the drain", 5, "back", (WA, "finalize")),
    Mutation("drain: asks R as well", 8, "in R", (WA, "finalize")),
    Mutation("back from final: backfill", 12, "in R", (WA, "finalize")),
)
