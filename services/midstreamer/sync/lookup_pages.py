"""Cuts the answer to a Lookup to the size of one frame.

A decision contains its window and its analogs, up to about 70 kB, so the 256 decisions that one
Lookup may name do not always fit.  The answer lists the ids that did not fit, and the peer asks
for them again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from midstreamer.domain.decision import Decision
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.encoded_sizes import EXPERIENCES_BYTES_MAX
from midstreamer.protocol.frames import Experiences

_encode = msgspec.msgpack.Encoder().encode


def answered(
    experience_ids: Sequence[bytes], decisions: Sequence[Decision], verdicts: Sequence[Verdict]
) -> Experiences:
    """Return an answer with as many of the first experiences as fit into a frame.

    The ids of the other experiences are in ``Experiences.left``.  ``decisions`` and ``verdicts``
    are what the store found for ``experience_ids``, in any order.
    """
    asked = list(dict.fromkeys(experience_ids))
    decision_of = {decision.experience_id: decision for decision in decisions}
    verdict_of = {verdict.experience_id: verdict for verdict in verdicts}
    size = fitting = 0
    for key in asked:
        size += sum(len(_encode(found[key])) for found in (decision_of, verdict_of) if key in found)
        if size > EXPERIENCES_BYTES_MAX and fitting:
            break
        fitting += 1
    included = asked[:fitting]
    return Experiences(
        decisions=tuple(decision_of[key] for key in included if key in decision_of),
        verdicts=tuple(verdict_of[key] for key in included if key in verdict_of),
        left=tuple(asked[fitting:]),
    )
