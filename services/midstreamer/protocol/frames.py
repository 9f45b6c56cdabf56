"""Every frame of the wire: what peers say to each other, and nothing about how.

Rules for growth: new fields at the end with defaults; unknown fields are ignored; a field never
changes its meaning.  A frame that must not be understood by an old peer gets a new name, and
VERSION rises only when an old peer could no longer take part at all.

A request carries ``request`` (chosen by the asker, unique on its connection) and ``budget_s``
(time left when it was sent: clocks of two machines need not agree); its answer, or a Failure,
repeats ``request``.  Everything else is a statement and is never answered.
"""

from __future__ import annotations

import msgspec

from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.series import Column, Window
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.values import CHANGES_MAX as CHANGES_MAX
from midstreamer.protocol.values import COLUMNS_MAX as COLUMNS_MAX
from midstreamer.protocol.values import DECISIONS_MAX as DECISIONS_MAX
from midstreamer.protocol.values import FRAME_BYTES_MAX as FRAME_BYTES_MAX
from midstreamer.protocol.values import RUNS_MAX as RUNS_MAX
from midstreamer.protocol.values import TICKS_MAX as TICKS_MAX
from midstreamer.protocol.values import WINDOWS_MAX as WINDOWS_MAX
from midstreamer.protocol.values import Caller as Caller
from midstreamer.protocol.values import Learned as Learned
from midstreamer.protocol.values import Level as Level
from midstreamer.protocol.values import Part as Part
from midstreamer.protocol.values import PartRefused as PartRefused
from midstreamer.protocol.values import Points as Points
from midstreamer.protocol.values import Run as Run
from midstreamer.protocol.values import SeriesSummary as SeriesSummary
from midstreamer.protocol.values import Skipped as Skipped

VERSION = 2
"""2: catalogue and holdings come in pages, and learning states are asked for one by one.  A peer of
version 1 would take a page for the whole, and decide without what was learned."""
ALPN = "midstreamer/1"


class Frame(msgspec.Struct, frozen=True, tag_field="frame", tag=True):
    """The root of all frames; the tag on the wire is the class name."""


class Request(Frame, frozen=True, tag=True, kw_only=True):
    """A frame that is answered."""

    request: int = 0
    budget_s: float = 30.0
    trace: str = ""
    """W3C ``traceparent`` of the span that asks; empty: it is not traced."""


class Answer(Frame, frozen=True, tag=True, kw_only=True):
    """A frame that answers; ``position`` is the feed position it is true at."""

    request: int = 0
    position: int = 0


# --- opening a connection -----------------------------------------------------------------------


class AgentHandshake(Frame, frozen=True, tag=True):
    """The first frame of every connection, from the side that dialled."""

    agent_id: str
    """The id of its certificate; another one closes the connection."""
    agent_type: str
    """The kind of its certificate."""
    version: int
    incarnation: str = ""
    """New at each start of a process: (identity, incarnation) is a writer."""
    capabilities: tuple[str, ...] = ()
    """What it understands beyond every version's frames (`protocol.capabilities`)."""


class AssignedStreams(msgspec.Struct, frozen=True):
    """Stream ids, chosen by the side that was dialled."""

    control: int
    bulk: int


class CoordinatorAck(Frame, frozen=True, tag=True):
    """The answer to a handshake, from whichever kind of server was dialled."""

    coordinator_id: str
    assigned_streams: AssignedStreams
    version: int = VERSION
    capabilities: tuple[str, ...] = ()


class Refusal(Frame, frozen=True, tag=True):
    """The last frame before the sender closes: why."""

    code: str
    message: str


class Drain(Frame, frozen=True, tag=True):
    """Send no more requests on this link: what is under way is still answered.

    The other side sends its next requests elsewhere and says Drain in its turn, after its last
    request.  So whoever has both said and heard Drain knows that no request is still on its way.
    The side that dialled closes the link when nothing is under way on it.
    """

    leaving: bool = False
    """The sender's process is about to stop. False: only this link is being replaced."""


class Cancel(Frame, frozen=True, tag=True):
    """Whoever sent a request no longer awaits its answer: work on it may end at once."""

    number: int
    """`Request.request` of that request; of this link and this direction."""


class Failure(Answer, frozen=True, tag=True, kw_only=True):
    """The answer to a request that could not be carried out."""

    code: str
    message: str
    retry_after_s: float = 0.0


# --- clients to coordinators --------------------------------------------------------------------


class Append(Request, frozen=True, tag=True, kw_only=True):
    """History grows. Ticks already stored with the same value are counted, not stored again."""

    columns: tuple[Column, ...]
    level: Level = Level.DURABLE


class Appended(Answer, frozen=True, tag=True, kw_only=True):
    """What became of an Append, and the verdicts its ticks brought (also when repeated).

    When they are many only the latest are told: the others can be looked up.
    """

    stored: int = 0
    repeated: int = 0
    verdicts: tuple[Verdict, ...] = ()
    level: Level = Level.DURABLE


class Match(Request, frozen=True, tag=True, kw_only=True):
    """Decide about windows. One frame's windows are decided with one state."""

    specification: Specification
    windows: tuple[Window, ...]
    at_least: int = 0
    """Feed position that must have been seen."""
    level: Level = Level.DURABLE
    record: bool = True
    """False: decide and tell, store nothing."""


class Matched(Answer, frozen=True, tag=True, kw_only=True):
    """One decision for each window, in the order asked."""

    decisions: tuple[Decision, ...]
    repeated: int = 0
    """How many of them had been stored before and are returned as stored."""


class Lookup(Request, frozen=True, tag=True, kw_only=True):
    """What is stored of these experiences."""

    experience_ids: tuple[bytes, ...]


class Place(msgspec.Struct, frozen=True):
    """Where a coordinator serves."""

    name: str
    """``coordinator/<id>``."""
    address: str


PLACES_MAX = 64


class Experiences(Answer, frozen=True, tag=True, kw_only=True):
    """Those that are stored, in no promised order."""

    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    left: tuple[bytes, ...] = ()
    """Ids not looked at, because the frame was full: ask for them again."""
    coordinators: tuple[Place, ...] = ()
    """When nothing was asked for: coordinators that serve, at most `PLACES_MAX`."""


class Survey(Request, frozen=True, tag=True, kw_only=True):
    """What is there: one page of the series, by name; with the first page members and counts.

    Coordinators answer with what sync tells them. `runtime.surveying` asks for all pages.
    """

    after: str = ""
    """The last series of the page before; empty for the first page."""


EVIDENCE_KEYS_BASE = frozenset({"engine", "serial", "bundle", "library", "kernel"})
"""Those that a sync without the capability `evidence` takes."""
EVIDENCE_KEYS = EVIDENCE_KEYS_BASE | {
    "stage",  # runtime.lifecycle.Stage
    "shards_left",  # shards that a draining agent still waits for others to hold
    "requests",  # requests under way
    "oldest_waiting_s",  # age of the oldest of them, in seconds
    "busy",  # share of time that the event loop or the threads worked, 0 to 1
    "complete",  # "yes", or in one line what is missing
    "not_after",  # end of the certificate, seconds since 1970
    "judged_by",  # hashes of the authorities that judged its live links
    "version",  # of the software
    "capabilities",  # named in its handshakes, with spaces between
    "carriers",  # that lead to its address, as `quic+wss`; absent where QUIC alone does
    "outside",  # address that leads to it from outside of the fleet's network
}
"""What a lease may tell an operator. Sync refuses every other key: a lease goes to everybody."""
DRAINING = "draining"
"""The stage of a member that is about to stop."""
EVIDENCE_BYTES_MAX = 4096
"""Of all keys and values together."""


class Member(msgspec.Struct, frozen=True):
    """One process of the fleet, as its lease tells. Its size does not grow with the store."""

    name: str
    """``<kind>/<id>``, from its certificate."""
    incarnation: str
    address: str
    """``host:port`` it serves on; empty for agents."""
    position: int = 0
    """Feed position it has reached."""
    held: int = 0
    """How many shards it can answer for (agents)."""
    evidence: dict[str, str] = {}
    """Certificate serial, bundle digest, versions: what an operator wants to see, under
    `EVIDENCE_KEYS`."""
    whole_for: str = ""
    """`domain.shard.agents_digest` of a list of agents. The member holds all shards that this list
    gives it, of all that exist at ``whole_at``. Empty when it does not (agents)."""
    whole_at: int = 0
    """A feed position; see ``whole_for``."""

    @property
    def draining(self) -> bool:
        """Whether it is about to stop: an agent owns no shard then, and nobody dials it anew."""
        return self.evidence.get("stage") == DRAINING


class Surveyed(Answer, frozen=True, tag=True, kw_only=True):
    """A page of the catalogue at ``position``: what came later is in the feed after it."""

    series: tuple[SeriesSummary, ...] = ()
    members: tuple[Member, ...] = ()
    """With the first page; so are the counts below."""
    shard_points: int = 0
    decisions: int = 0
    verdicts: int = 0
    ticks: int = 0
    more: bool = False
    """Another page follows: ask again after the last series."""


# --- coordinators to agents ---------------------------------------------------------------------


class Search(Request, frozen=True, tag=True, kw_only=True):
    """Find the nearest windows in these shards. Only outcomes known at each window's time count."""

    specification: Specification
    windows: tuple[Window, ...]
    shards: tuple[Shard, ...]
    at_least: int = 0
    origin: str = ""
    """For whom a coordinator asks: the agent lets its clients take turns."""


class Found(Answer, frozen=True, tag=True, kw_only=True):
    """One Evidence for each window, over the shards that were asked."""

    findings: tuple[Evidence, ...]


class Holdings(Frame, frozen=True, tag=True):
    """Agent to coordinator: where it stands, and what changed of what it holds.

    After the handshake all its shards come, in pages; then only changes; every heartbeat says how
    many there are in all, and their digest, so that a coordinator notices when it knows others.
    """

    position: int
    shards: tuple[Shard, ...]
    """It can answer for these as well now."""
    busy: int = 0
    """Searches under way."""
    dropped: tuple[Shard, ...] = ()
    """It can no longer answer for these."""
    count: int = 0
    """Shards it can answer for in all."""
    digest: int = 0
    """`domain.shard.digest` of all of them."""
    more: bool = False
    """Another page follows at once: until then ``count`` and ``digest`` say nothing."""


# --- everybody to sync --------------------------------------------------------------------------


class Write(Request, frozen=True, tag=True, kw_only=True):
    """A coordinator's batch, one transaction: ticks first, then decisions."""

    sequence: int
    """Of this writer (certified identity and incarnation), rising by one."""
    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    callers: tuple[Caller, ...] = ()
    """Who asked for what, in the order of columns and decisions. Each part is taken whole or
    refused by itself, and new series and streams are counted for its caller. Empty: the Write is
    one part, counted for the writer, and its refusal is a Failure."""


class Written(Answer, frozen=True, tag=True, kw_only=True):
    """Committed. ``decisions`` are the stored ones where they had been stored before."""

    stored: int = 0
    repeated: int = 0
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    column_repeats: tuple[int, ...] = ()
    """Of each column of the Write, in its order, how many ticks had been stored before: one
    Write carries the ticks of several callers, who are told apart. Empty when none had."""
    refused: tuple[PartRefused, ...] = ()
    """Parts of which nothing is stored; of the others everything is."""


class Renew(Request, frozen=True, tag=True, kw_only=True):
    """Take or renew a lease; its name comes from the certificate."""

    member: Member
    leaving: bool = False


class Fleet(Answer, frozen=True, tag=True, kw_only=True):
    """Everybody with a live lease."""

    members: tuple[Member, ...]
    lease_s: float
    shard_points: int
    drain: bool = False
    """The member that renews has been asked to drain (`Retire`)."""


class Retire(Request, frozen=True, tag=True, kw_only=True):
    """Ask a member of the fleet to drain and stop. Coordinators pass it on to sync."""

    name: str
    """``<kind>/<id>``, as its lease says."""


class Retired(Answer, frozen=True, tag=True, kw_only=True):
    """The member will be told with its next renewal; its stage, as its lease said last."""

    name: str
    stage: str = ""


class Load(Request, frozen=True, tag=True, kw_only=True):
    """These points; of many short series in one request."""

    runs: tuple[Run, ...]


class Loaded(Answer, frozen=True, tag=True, kw_only=True):
    """What exists at ``position``, in the order asked.

    When the frame would be too large the last part is cut, and those behind it are left out.
    """

    parts: tuple[Part, ...]


class Recall(Request, frozen=True, tag=True, kw_only=True):
    """The newest learning state of one stream. A coordinator asks when it first needs it."""

    stream: str


class Recalled(Answer, frozen=True, tag=True, kw_only=True):
    """The state at ``position``; version 0 and no bytes when nothing was learned."""

    stream: str
    version: int = 0
    state: bytes = b""
    """reasoning.encode of it."""


class Tail(Request, frozen=True, tag=True, kw_only=True):
    """Follow the change feed after a position; answered by Changes for as long as the link lives.

    ``after = -1`` means: from now, beginning with the present members.
    """

    after: int
    states: bool = True
    """False: the Learned come without their states. Positions stay the same."""


class Joined(msgspec.Struct, frozen=True, tag=True):
    """Change: the list of members with a live lease."""

    members: tuple[Member, ...]


Change = Points | Learned | Joined | Skipped


class Changes(Answer, frozen=True, tag=True, kw_only=True):
    """Committed changes in order; after them ``position`` has been reached."""

    changes: tuple[Change, ...]


def _leaves(root: type[Frame]) -> list[type[Frame]]:
    children = root.__subclasses__()
    return [leaf for child in children for leaf in _leaves(child)] if children else [root]


FRAMES: dict[str, type[Frame]] = {kind.__name__: kind for kind in _leaves(Frame)}
"""Every frame by the name it has on the wire."""


class Unknown(Frame, frozen=True, tag=True):
    """A frame of a name that this version does not know; not in `FRAMES`, and never sent."""

    name: str
    request: int = 0
    """The number of a request, which is answered; 0: it is none."""
