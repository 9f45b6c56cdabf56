"""Decide and learn: pure functions of (state, event), with no clock, no chance and no way out.

    decide(evidence, state) -> Decision        changes nothing
    judge(decision, value, due_time) -> Verdict
    learn(state, decision or verdict) -> State folded by sync, in event time

`forecast` turns analogs into probabilities and an interval, `mixture` weighs the arms by what
they lost, `tracker` widens the interval until it covers as often as it says, and `licence`
lets a signal out only while the evidence says that its precision holds.  `deciding`, `judging`
and `learning` put them together; `sizing` says how large a state may become.
"""

from midstreamer.reasoning.deciding import LIBRARY, decide
from midstreamer.reasoning.encoding import decode, encode
from midstreamer.reasoning.forecast import ARMS
from midstreamer.reasoning.judging import judge
from midstreamer.reasoning.learning import initial, learn
from midstreamer.reasoning.sizing import room

__all__ = ["ARMS", "LIBRARY", "decide", "decode", "encode", "initial", "judge", "learn", "room"]
