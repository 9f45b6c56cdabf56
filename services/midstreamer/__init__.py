"""Midstreamer: find past windows similar to the present one, forecast from them, and learn.

The names in `__all__` are the public API. Each name is imported on first use, so that a service
which imports one subpackage does not load all of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midstreamer.client.api import AsyncClient
    from midstreamer.client.blocking import Client
    from midstreamer.client.matcher import (
        AdaptivePatternMatcher,
        AsyncAdaptivePatternMatcher,
        TradingSignal,
    )
    from midstreamer.client.request_retries import Receipt
    from midstreamer.domain.decision import Decision, Direction, Reason
    from midstreamer.domain.errors import MidstreamerError
    from midstreamer.domain.series import Column, Tick, Window, column, window
    from midstreamer.domain.specification import Measure, Scale, Specification, Transform
    from midstreamer.domain.verdict import Verdict

__version__ = "0.1.0"

__all__ = [
    "AdaptivePatternMatcher",
    "AsyncAdaptivePatternMatcher",
    "AsyncClient",
    "Client",
    "Column",
    "Decision",
    "Direction",
    "Measure",
    "MidstreamerError",
    "Reason",
    "Receipt",
    "Scale",
    "Specification",
    "Tick",
    "TradingSignal",
    "Transform",
    "Verdict",
    "Window",
    "column",
    "window",
]

_HOMES = {
    "client.api": ("AsyncClient",),
    "client.blocking": ("Client",),
    "client.request_retries": ("Receipt",),
    "client.matcher": ("AdaptivePatternMatcher", "AsyncAdaptivePatternMatcher", "TradingSignal"),
    "domain.decision": ("Decision", "Direction", "Reason"),
    "domain.errors": ("MidstreamerError",),
    "domain.series": ("Column", "Tick", "Window", "column", "window"),
    "domain.specification": ("Measure", "Scale", "Specification", "Transform"),
    "domain.verdict": ("Verdict",),
}
"""The public names of this package, by the module that defines them."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
"""The module that defines each public name: the inverse of `_HOMES`."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use; raise AttributeError for any other name."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
