"""Every frame that peers send to each other, as a struct with its fields.

Rules for changes: add new fields at the end, with defaults; unknown fields are ignored; a field
never changes its meaning.  A frame that an old peer must not misread gets a new name.  `VERSION`
rises only when an old peer could no longer take part at all.

A request carries ``request``, a number unique among the requests of its sender on the link, and
``budget_s``, the seconds left to answer (not a time of day: clocks may differ).  The answer or a
Failure repeats the number.  Every other frame is a statement and is never answered.
"""

from __future__ import annotations

import msgspec

from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.series import Column, Window
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frame_fields import CHANGES_MAX as CHANGES_MAX
from midstreamer.protocol.frame_fields import COLUMNS_MAX as COLUMNS_MAX
from midstreamer.protocol.frame_fields import DECISIONS_MAX as DECISIONS_MAX
from midstreamer.protocol.frame_fields import FRAME_BYTES_MAX as FRAME_BYTES_MAX
from midstreamer.protocol.frame_fields import RUNS_MAX as RUNS_MAX
from midstreamer.protocol.frame_fields import TICKS_MAX as TICKS_MAX
from midstreamer.protocol.frame_fields import WINDOWS_MAX as WINDOWS_MAX
from midstreamer.protocol.frame_fields import Caller as Caller
from midstreamer.protocol.frame_fields import Learned as Learned
from midstreamer.protocol.frame_fields import Level as Level
from midstreamer.protocol.frame_fields import Part as Part
from midstreamer.protocol.frame_fields import PartRefused as PartRefused
from midstreamer.protocol.frame_fields import Points as Points
from midstreamer.protocol.frame_fields import Run as Run
from midstreamer.protocol.frame_fields import SeriesSummary as SeriesSummary
from midstreamer.protocol.frame_fields import Skipped as Skipped

VERSION = 2
"""Protocol version. Since version 2, catalogue and holdings come in pages, and learning states only
on request. A peer of version 1 would read only the first page, and decide without a state."""
ALPN = "midstreamer/1"


class Frame(msgspec.Struct, frozen=True, tag_field="frame", tag=True):
    """Base class of all frames. On the wire the key ``frame`` holds the name of the class."""


class Request(Frame, frozen=True, tag=True, kw_only=True):
    """Base class of requests: frames that the receiver answers."""

    request: int = 0
    budget_s: float = 30.0
    trace: str = ""
    """W3C ``traceparent`` of the sender's span. Empty: the request is not traced."""


class Answer(Frame, frozen=True, tag=True, kw_only=True):
    """Base class of answers to requests. An answer is as of ``position`` in the change feed."""

    request: int = 0
    position: int = 0


# --- opening a connection -----------------------------------------------------------------------


class AgentHandshake(Frame, frozen=True, tag=True):
    """The first frame of a connection. The side that dialled sends it, even if it is no agent."""

    agent_id: str
    """Must be the id in the sender's certificate, else the connection is closed."""
    agent_type: str
    """Must be the kind in the sender's certificate, else the connection is closed."""
    version: int
    incarnation: str = ""
    """New at each start of the process. Identity and incarnation together name a writer."""
    capabilities: tuple[str, ...] = ()
    """Capabilities of the sender (`protocol.capabilities`)."""


class AssignedStreams(msgspec.Struct, frozen=True):
    """Ids of a link's two byte streams (as in QUIC). The side that was dialled chooses them."""

    control: int
    bulk: int


class CoordinatorAck(Frame, frozen=True, tag=True):
    """The answer to AgentHandshake, sent by every kind of server, not only by coordinators."""

    coordinator_id: str
    assigned_streams: AssignedStreams
    version: int = VERSION
    capabilities: tuple[str, ...] = ()


class Refusal(Frame, frozen=True, tag=True):
    """The last frame before its sender closes the connection; it gives the reason."""

    code: str
    message: str


class Drain(Frame, frozen=True, tag=True):
    """Ask the other side to send no more requests on this link. Open requests are still answered.

    The other side sends its next requests on another link, and sends Drain too, after its last
    request.  So a side that has sent and received Drain knows that no request can still arrive.
    The side that dialled closes the link when no request is open on it.
    """

    leaving: bool = False
    """The sender's process is about to stop. False: only this link is being replaced."""


class Cancel(Frame, frozen=True, tag=True):
    """The sender no longer awaits the answer to its request: the work for it may stop at once."""

    number: int
    """The number in the field ``request`` of the cancelled request, sent on the same link."""


class Failure(Answer, frozen=True, tag=True, kw_only=True):
    """The answer to a request that could not be carried out."""

    code: str
    message: str
    retry_after_s: float = 0.0


# --- clients to coordinators --------------------------------------------------------------------


class Append(Request, frozen=True, tag=True, kw_only=True):
    """Append ticks to series. Ticks stored before with the same value are only counted."""

    columns: tuple[Column, ...]
    level: Level = Level.DURABLE


class Appended(Answer, frozen=True, tag=True, kw_only=True):
    """Result of an Append, with the verdicts that became possible through its ticks.

    An Append that repeats ticks gets their verdicts too.  Of many verdicts, the latest are sent.
    """

    stored: int = 0
    repeated: int = 0
    verdicts: tuple[Verdict, ...] = ()
    level: Level = Level.DURABLE


class Match(Request, frozen=True, tag=True, kw_only=True):
    """Ask for a decision about each window. One learning state is used for all of them."""

    specification: Specification
    windows: tuple[Window, ...]
    at_least: int = 0
    """Feed position that the coordinator must have reached before it decides."""
    level: Level = Level.DURABLE
    record: bool = True
    """False: answer with the decisions and do not store them."""


class Matched(Answer, frozen=True, tag=True, kw_only=True):
    """One decision for each window of the Match, in the same order."""

    decisions: tuple[Decision, ...]
    repeated: int = 0
    """Number of decisions that had been stored before; for them the stored version is returned."""


class Lookup(Request, frozen=True, tag=True, kw_only=True):
    """Ask for the stored decisions and verdicts of the experiences with the given ids."""

    experience_ids: tuple[bytes, ...]


class Place(msgspec.Struct, frozen=True):
    """Name and address of one coordinator."""

    name: str
    """``coordinator/<id>``."""
    address: str


PLACES_MAX = 64  # maximum number of coordinators that ``Experiences.coordinators`` lists


class Experiences(Answer, frozen=True, tag=True, kw_only=True):
    """Answer to a Lookup: the decisions and verdicts that are stored, in no particular order."""

    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    left: tuple[bytes, ...] = ()
    """Ids that did not fit into this frame: send another Lookup for them."""
    coordinators: tuple[Place, ...] = ()
    """For a Lookup without ids: the coordinators that serve, at most `PLACES_MAX`."""


class Survey(Request, frozen=True, tag=True, kw_only=True):
    """Ask for one page of the list of all series, which is sorted by name.

    The first page also has the members, and the numbers of stored decisions, verdicts and ticks. A
    coordinator answers with the data of sync. `runtime.catalogue_pages` reads all pages.
    """

    after: str = ""
    """Name of the last series of the page before. Empty: the first page."""


EVIDENCE_KEYS_BASE = frozenset({"engine", "serial", "bundle", "library", "kernel"})
"""Evidence keys that every sync accepts, even one without the capability ``evidence``."""
EVIDENCE_KEYS = EVIDENCE_KEYS_BASE | {
    "stage",  # runtime.lifecycle.Stage
    "shards_left",  # shards of a draining agent that no other agent holds yet
    "requests",  # requests under way
    "oldest_waiting_s",  # age of the oldest request under way, in seconds
    "busy",  # busy share of time, 0 to 1: of the event loop or of the threads, the larger one
    "complete",  # "yes", or one line that says what is missing
    "not_after",  # time at which the certificate expires, seconds since 1970
    "judged_by",  # hashes of the authorities of the certificates of connected peers
    "version",  # of the software
    "capabilities",  # what the member lists in its handshakes, separated by spaces
    "carriers",  # carriers at the member's address, such as `quic+wss`; absent: only QUIC
    "outside",  # a coordinator's address for clients outside the fleet's network
}
"""Evidence keys allowed in a lease. A lease with any other key is refused, to keep leases small."""
DRAINING = "draining"
"""Value of the evidence ``stage`` of a member that is about to stop."""
EVIDENCE_BYTES_MAX = 4096
"""Maximum bytes of the evidence of one lease: all keys and values together."""


class Member(msgspec.Struct, frozen=True):
    """One process of the fleet, from its lease. Its size does not depend on how much is stored."""

    name: str
    """``<kind>/<id>``, from the certificate."""
    incarnation: str
    address: str
    """``host:port`` at which the member serves. Empty for agents."""
    position: int = 0
    """Feed position that the member has reached."""
    held: int = 0
    """Of an agent: number of shards that it can search."""
    evidence: dict[str, str] = {}
    """Facts for operators, such as certificate serial and versions. `EVIDENCE_KEYS` lists the
    allowed keys."""
    whole_for: str = ""
    """Empty, except for an agent that holds all shards assigned to it: then the digest
    (`domain.shard.agents_digest`) of all agents among which the shards were divided."""
    whole_at: int = 0
    """Of an agent: the feed position at which it held all shards assigned to it (``whole_for``)."""

    @property
    def draining(self) -> bool:
        """Whether the member is about to stop. It then owns no shard and gets no new links."""
        return self.evidence.get("stage") == DRAINING


class Surveyed(Answer, frozen=True, tag=True, kw_only=True):
    """One page of the catalogue at ``position``. Later changes follow in the feed."""

    series: tuple[SeriesSummary, ...] = ()
    members: tuple[Member, ...] = ()
    """Members of the fleet. Only the first page has members and counts."""
    shard_points: int = 0
    decisions: int = 0
    verdicts: int = 0
    ticks: int = 0
    more: bool = False
    """True: more series follow. Ask for the page after the last series of this page."""


# --- coordinators to agents ---------------------------------------------------------------------


class Search(Request, frozen=True, tag=True, kw_only=True):
    """Search the given shards for analogs whose outcome was already known at the window's time."""

    specification: Specification
    windows: tuple[Window, ...]
    shards: tuple[Shard, ...]
    at_least: int = 0
    origin: str = ""
    """Identity of the client behind the search, so that the agent can be fair between clients."""


class Found(Answer, frozen=True, tag=True, kw_only=True):
    """Answer to a Search: one Evidence for each window, over the shards of the Search."""

    findings: tuple[Evidence, ...]


class Holdings(Frame, frozen=True, tag=True):
    """An agent's heartbeat to a coordinator: its feed position and the changes of its shards.

    After the handshake an agent lists all its shards, in pages; later only changes.  ``count`` and
    ``digest`` let the coordinator notice when its own list of the agent's shards is wrong.
    """

    position: int
    shards: tuple[Shard, ...]
    """Shards that the agent can now search, besides those that it listed before."""
    busy: int = 0
    """Searches under way."""
    dropped: tuple[Shard, ...] = ()
    """Shards that the agent can no longer search."""
    count: int = 0
    """Number of all shards that the agent can search."""
    digest: int = 0
    """`domain.shard.digest` of all shards that the agent can search."""
    more: bool = False
    """True: another page follows at once, and ``count`` and ``digest`` are not valid yet."""


# --- everybody to sync --------------------------------------------------------------------------


class Write(Request, frozen=True, tag=True, kw_only=True):
    """A coordinator's batch for one transaction: the ticks are stored first, then the decisions."""

    sequence: int
    """Number of this batch: each writer (identity and incarnation) counts up by one."""
    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    callers: tuple[Caller, ...] = ()
    """The parts of the Write, in order: each takes as many of the next ``columns`` and of the next
    ``decisions`` as its Caller says. A part is stored or refused as a whole, and its new series and
    streams count against its caller's quota. Empty: the whole Write is one part, and the writer is
    its caller; if that part is refused, the answer is a Failure."""


class Written(Answer, frozen=True, tag=True, kw_only=True):
    """The Write is committed. Of a decision stored before, the stored version is returned."""

    stored: int = 0
    repeated: int = 0
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    column_repeats: tuple[int, ...] = ()
    """For each column of the Write, the number of its ticks that had been stored before, so that
    each caller can be answered separately. Empty if no tick had been stored before."""
    refused: tuple[PartRefused, ...] = ()
    """Parts of which nothing is stored. All other parts are stored completely."""


class Renew(Request, frozen=True, tag=True, kw_only=True):
    """Take or renew the sender's lease. The sender's name comes from its certificate."""

    member: Member
    leaving: bool = False


class Fleet(Answer, frozen=True, tag=True, kw_only=True):
    """Answer to a Renew: all members with a live lease."""

    members: tuple[Member, ...]
    lease_s: float
    shard_points: int
    drain: bool = False
    """True: the member that sent the Renew has been asked to drain (`Retire`)."""


class Retire(Request, frozen=True, tag=True, kw_only=True):
    """Ask a member of the fleet to drain and stop. A coordinator passes this request on to sync."""

    name: str
    """``<kind>/<id>`` of the member, as in its lease."""


class Retired(Answer, frozen=True, tag=True, kw_only=True):
    """The request to drain is recorded: the member learns of it when it renews its lease."""

    name: str
    stage: str = ""  # stage of the member in its latest lease


class Load(Request, frozen=True, tag=True, kw_only=True):
    """Ask for ranges of points. One request may cover many short series."""

    runs: tuple[Run, ...]


class Loaded(Answer, frozen=True, tag=True, kw_only=True):
    """The points as of feed ``position``: one part for each run of the Load, in the same order.

    If the frame would be too large, a part may be cut short. The runs after it then get no part.
    """

    parts: tuple[Part, ...]


class Recall(Request, frozen=True, tag=True, kw_only=True):
    """Ask for the newest learning state of a stream. Coordinators ask before they first use it."""

    stream: str


class Recalled(Answer, frozen=True, tag=True, kw_only=True):
    """The learning state at ``position``. Version 0 and no bytes: nothing has been learned yet."""

    stream: str
    version: int = 0
    state: bytes = b""
    """The state as `reasoning.encode` writes it."""


class Tail(Request, frozen=True, tag=True, kw_only=True):
    """Follow the change feed after a position. Changes frames answer it until the link ends.

    ``after = -1`` starts at the present position, with the present members as the first change.
    """

    after: int
    states: bool = True
    """False: each Learned change has an empty ``state``. No change of the feed is left out."""


class Joined(msgspec.Struct, frozen=True, tag=True):
    """A change of the feed: the new list of members with a live lease."""

    members: tuple[Member, ...]


Change = Points | Learned | Joined | Skipped


class Changes(Answer, frozen=True, tag=True, kw_only=True):
    """Committed changes of the feed, in order. With them the receiver has reached ``position``."""

    changes: tuple[Change, ...]


def _leaves(root: type[Frame]) -> list[type[Frame]]:
    children = root.__subclasses__()
    return [leaf for child in children for leaf in _leaves(child)] if children else [root]


FRAMES: dict[str, type[Frame]] = {kind.__name__: kind for kind in _leaves(Frame)}
"""Every frame class, by its name on the wire."""


class Unknown(Frame, frozen=True, tag=True):
    """Stands for a received frame whose name this version does not know. It is never sent."""

    name: str
    request: int = 0
    """Number of the request, which gets a Failure as its answer. 0: the frame is not a request."""
