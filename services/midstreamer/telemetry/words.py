"""The closed sets of words that labels of metrics are made of.

Where the words are known below this room they are taken from there.  This room may not import
`security`, `protocol`, `transport` or a service, so their words are written down here once more;
tests/unit/telemetry/test_words.py compares them with the code that uses them.
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
    """The first names that were met, at most so many: for what people name, and not peers.

    A name that is in it stays in it while the process lives, so that a series does not end when
    another begins.
    """

    def __init__(self, what: str, most: int) -> None:
        self.what = what
        self.most = most
        self._met: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the name is one of the first; it becomes one while there is room."""
        if name not in self._met and len(self._met) < self.most:
            self._met.add(name)
        return name in self._met

    def __iter__(self) -> Iterator[str]:
        """The names, sorted, as far as they are known."""
        return iter(sorted(self._met))


UNIVERSES = FirstNames("the first 16 universes met", 16)
POOLS = FirstNames("the first 32 pools met", 32)

OTHER = "other"
"""What a label says for every word that is not in its set."""
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
"""Files that decide who is trusted, and the request for a certificate."""
YES_NO = _words("true false")
TICKS = _words("stored repeated")
COMMITS = _words("committed clashed failed")
CANCELLED = "cancelled"
"""What the caller's side says of a request that it stopped to wait for."""
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
"""Types of frames."""
REFUSALS = CODES | _words(
    """
    no_certificate unreadable_certificate unknown_authority expired not_yet_valid
    wrong_usage no_identity label_mismatch wrong_trust_domain wrong_kind not_allowed
    too_many_links version malformed_frame frame_too_large unexpected_frame unknown_stream
    claim_mismatch handshake_timeout handshake_failed not_authorised weak_key weak_signature
    frame_timeout not_judged holdings_mismatch
    """
)
"""Why a connection was turned away: the codes of errors, and the reasons of security, protocol
and transport."""
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
"""Background loops, by the names that services start them under."""
SIGNED = _words(
    """
    signed NotAPod AnotherNamespace Unreadable WeakKey MoreThanNames NotOneName ForeignName
    UnknownAccount WrongKind AnotherPod WrongHostName WrongUsage NamespaceNotLabelled NotAllowed
    TooManyCertificates PodGone
    """
)
"""How the operator answers signing requests."""
EVENTS_BY_PEERS = _words(
    """
    agent.joined agent.known_wrongly agent.leaves agent.lost answer.dropped datagram.failed
    decision.unsettled frame.refused frame.unknown guest.refused handshake.failed
    link.ended link.failed peer.dropped peer.failed peer.refused
    peer.removed request.denied request.failed statement.failed survey.remembered
    verdict.unlearned verdict.void wire.failed write.refused
    """
)
"""Log lines that somebody else can bring about as often as he likes: they are limited in rate."""
