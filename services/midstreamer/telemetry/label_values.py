"""The closed sets of values that metric labels may have.

Values that `domain` defines are taken from there.  This package may not import `security`,
`protocol`, `transport` or a service, so values from those are repeated here;
tests/unit/telemetry/test_label_values.py compares them with the code that uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from midstreamer import __version__
from midstreamer.domain.decision import Direction, Reason
from midstreamer.domain.errors import BY_CODE
from midstreamer.domain.identity import Kind
from midstreamer.domain.specification import Measure

Words: TypeAlias = frozenset[str]


class FirstNames:
    """Set of label values that takes in each name that is used, until it has ``most`` names.

    It is for names that users choose, such as universes.  A name stays in the set while the process
    lives, so a new name never ends the Prometheus time series of an older one.  Do not use this
    class for names that peers choose: one peer could fill the set.
    """

    def __init__(self, what: str, most: int) -> None:
        self.what = what
        self.most = most
        self._met: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Return whether a name is among the first ``most`` names; while there is room, add the
        name."""
        if name not in self._met and len(self._met) < self.most:
            self._met.add(name)
        return name in self._met

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the set, sorted."""
        return iter(sorted(self._met))


UNIVERSES = FirstNames("the first 16 universes met", 16)
POOLS = FirstNames("the first 32 pools met", 32)

OTHER = "other"
"""Label value that stands for every word outside the label's set."""
ACCEPTED = "accepted"
OK = "ok"


def _words(text: str) -> Words:
    return frozenset(text.split())


KINDS: Words = frozenset(Kind)
CODES: Words = frozenset(BY_CODE)
MEASURES: Words = frozenset(Measure)
OUTCOMES: Words = frozenset(Direction) | frozenset(Reason)
HITS = _words("true false void")
STAGES = _words("starting serving draining stopped")
STORE_STEPS = _words("commit feed load")
FILES = _words("certificate bundle authority allowlist request")
"""Names of the files that decide which peers are trusted, and ``request`` for a certificate
request."""
YES_NO = _words("true false")
TICKS = _words("stored repeated")
COMMITS = _words("committed clashed failed")
CANCELLED = "cancelled"
"""Result of a request when its sender has stopped waiting for the answer. Only the metrics of the
sending process have it."""
CARRIERS = _words("quic wss memory")
DIRECTIONS = _words("received sent")
PACKET_FATES = _words("sent lost probed")
ATTEMPTS = _words("answered failed abandoned")
SHARD_STATES = _words("total underreplicated unheld")
POOL_STATES = _words("busy idle")
OPERATOR_WORK = _words("requests pools")
RUNS = _words("ok failed")
POOL_AGENTS = _words("wanted ready")
SPANS = _words("exported dropped")
LOAD_USERS = _words("quic sdk")
LOAD_REQUESTS = _words("handshake reconnect append match lookup survey refusal")
VERSIONS: Words = frozenset({__version__})
QUEUES = _words("matches outbox reads requests searches writes")
FRAMES = _words(
    """
    AgentHandshake CoordinatorAck Refusal Failure Append Appended Match Matched Lookup
    Experiences Survey Surveyed Search Found Holdings Write Written Renew Fleet Load Loaded
    Tail Changes Recall Recalled Drain Cancel Retire Retired
    """
)
"""Names of the frame types."""
REFUSALS = CODES | _words(
    """
    no_certificate unreadable_certificate unknown_authority expired not_yet_valid
    wrong_usage no_identity label_mismatch wrong_trust_domain wrong_kind not_allowed
    too_many_links version malformed_frame frame_too_large unexpected_frame unknown_stream
    claim_mismatch handshake_timeout handshake_failed not_authorised weak_key weak_signature
    frame_timeout not_judged holdings_mismatch
    """
)
"""Reasons for which a connection is refused: all error codes, and the reasons of `security`,
`protocol` and `transport`."""
TASKS = _words(
    """
    agent.sync agent.lease agent.loads agent.coordinator agent.deserted
    sync.commit sync.feed sync.watch sync.house sync.lease sync.opening sync.asked
    coordinator.sync coordinator.outbox coordinator.dispatch coordinator.lease
    coordinator.spool coordinator.replay coordinator.refuse
    postgres.server postgres.files postgres.login postgres.guest
    security.renewal operator.sweep operator.pools
    """
)
"""Names under which services start their background loops."""
SIGNED = _words(
    """
    signed NotAPod AnotherNamespace Unreadable WeakKey MoreThanNames NotOneName ForeignName
    UnknownAccount WrongKind AnotherPod WrongHostName WrongUsage NamespaceNotLabelled NotAllowed
    TooManyCertificates PodGone
    """
)
"""Possible answers of the operator to a signing request: signed, or the reason of a refusal."""
EVENTS_BY_PEERS = _words(
    """
    agent.joined agent.known_wrongly agent.leaves agent.lost answer.dropped datagram.failed
    decision.unsettled frame.refused frame.unknown guest.refused handshake.failed
    link.ended link.failed peer.dropped peer.failed peer.refused
    peer.removed request.denied request.failed statement.failed survey.remembered
    verdict.unlearned verdict.void wire.failed write.refused
    """
)
"""Log events that a peer or a stranger can cause as often as it wants: their lines are rate
limited."""
