"""Decide and learn: pure functions of (state, event), without clock, randomness, input or output.

    decide(evidence, state) -> Decision         leaves the state as it is
    judge(decision, value, due_time) -> Verdict
    learn(state, decision or verdict) -> State  called by sync, in event time

`forecast` turns analogs into probabilities and an interval. `mixture` weights the arms (the
forecasting methods) by their past losses. `interval_tracker` widens the interval until it reaches
the wanted coverage. `licence` permits signals only while the evidence shows that their precision
holds. `deciding`, `judging` and `learning` combine these; `state_size_bound` bounds the size of a
state.
"""

from midstreamer.reasoning.deciding import LIBRARY, decide
from midstreamer.reasoning.encoding import decode, encode
from midstreamer.reasoning.forecast import ARMS
from midstreamer.reasoning.judging import judge
from midstreamer.reasoning.learning import initial, learn
from midstreamer.reasoning.state_size_bound import room

__all__ = ["ARMS", "LIBRARY", "decide", "decode", "encode", "initial", "judge", "learn", "room"]
