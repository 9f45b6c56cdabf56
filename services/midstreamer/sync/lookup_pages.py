"""How much of a lookup fits into one answer: the rest is named, to be asked for again.

A decision carries its window and its analogs, up to some 70 kB; 256 of them are more than a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from midstreamer.domain.decision import Decision
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Experiences
from midstreamer.protocol.sizes import EXPERIENCES_BYTES_MAX

_encode = msgspec.msgpack.Encoder().encode


def answered(
    experience_ids: Sequence[bytes], decisions: Sequence[Decision], verdicts: Sequence[Verdict]
) -> Experiences:
    """The first of these experiences, as many as fit; those that do not are ``left``."""
    asked = list(dict.fromkeys(experience_ids))
    made = {one.experience_id: one for one in decisions}
    came = {one.experience_id: one for one in verdicts}
    held = fitting = 0
    for one in asked:
        held += sum(len(_encode(kept[one])) for kept in (made, came) if one in kept)
        if held > EXPERIENCES_BYTES_MAX and fitting:
            break
        fitting += 1
    told = asked[:fitting]
    return Experiences(
        decisions=tuple(made[one] for one in told if one in made),
        verdicts=tuple(came[one] for one in told if one in came),
        left=tuple(asked[fitting:]),
    )
