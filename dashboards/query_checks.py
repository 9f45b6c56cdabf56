"""Checks of PromQL queries: metrics and labels exist, and functions fit the type of the metric.

They are those checks of pint, a linter for Prometheus rules, that apply to us.  They work on the
syntax tree of PromQL.  Examples: a counter is only used through its growth, a label in a condition
exists, both sides of a division have the same labels.  Each check yields complaints, and nothing if
the query is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import promql_parser as grammar

from dashboards import uncatalogued_series as known
from dashboards.promql import LE
from midstreamer.telemetry import label_values, metrics
from midstreamer.telemetry.metric_builders import Described

INTERVAL = "$__rate_interval"
GROWTH = frozenset({"rate", "increase", "irate", "resets"})
"""Functions of PromQL for counters only: they recognise that a counter restarted from 0."""
SLOPES = frozenset({"deriv", "delta", "idelta", "predict_linear"})
"""Functions of PromQL for gauges only: they take the restart of a counter for a real change."""
SUFFIXES = ("_bucket", "_sum", "_count")
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
SETS = frozenset({"and", "or", "unless"})
SPECIAL = re.compile(r"[.*+?()\[\]{}|^$\\]")
"""Characters with a meaning in regular expressions."""
INCREASE_LEAST_S = 3600.0
"""Shortest window of `increase` in seconds; for shorter windows use `rate` with `INTERVAL`."""
ANY: frozenset[str] | None = None


def parsed(text: str) -> Any:
    """Return the syntax tree of a query, `INTERVAL` replaced by 5m; raise ValueError if invalid."""
    return grammar.parse(text.replace(INTERVAL, "5m"))


def described(name: str) -> Described | None:
    """Return the metric that has series of this name, such as ``..._bucket`` of a histogram.

    Return None if no process publishes a series of this name.
    """
    every = {each.name: each for each in (*metrics.CATALOGUE, *known.PROCESS, *known.RECORDED)}
    every[known.UP.name] = known.UP
    if name in every:
        return None if every[name].kind == "histogram" else every[name]
    for suffix in SUFFIXES:
        found = every.get(name.removesuffix(suffix))
        if name.endswith(suffix) and found is not None and found.kind == "histogram":
            return found
    return None


def labels_of(name: str) -> frozenset[str]:
    """Return the labels of a series by its name; empty if no process publishes it."""
    what = described(name)
    if what is None:
        return frozenset()
    if what == known.OBJECTIVE:
        return frozenset(what.labels)
    if what in known.RECORDED:
        return frozenset({*what.labels, "namespace"})
    own = {LE} if name.endswith("_bucket") else set()
    return frozenset({*what.labels, *known.TARGET_LABELS, *own})


def selectors(node: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield every selector with the names of the functions around it, the outermost first."""
    yield from _selectors(node, ())


def _selectors(node: Any, around: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    match node:
        case grammar.VectorSelector():
            yield node, around
        case grammar.MatrixSelector():
            yield node.vector_selector, around
        case grammar.Call():
            for argument in node.args:
                yield from _selectors(argument, (*around, node.func.name))
        case grammar.AggregateExpr():
            yield from _selectors(node.expr, (*around, str(node.op)))
        case grammar.BinaryExpr():
            yield from _selectors(node.lhs, around)
            yield from _selectors(node.rhs, around)
        case grammar.ParenExpr() | grammar.UnaryExpr() | grammar.SubqueryExpr():
            yield from _selectors(node.expr, around)


def kept(node: Any) -> frozenset[str] | None:
    """Return the labels that the result of an expression has; None for a scalar."""
    match node:
        case grammar.VectorSelector():
            return labels_of(node.name or "")
        case grammar.MatrixSelector():
            return kept(node.vector_selector)
        case grammar.ParenExpr() | grammar.UnaryExpr() | grammar.SubqueryExpr():
            return kept(node.expr)
        case grammar.AggregateExpr():
            return _aggregated(node)
        case grammar.Call():
            return _called(node)
        case grammar.BinaryExpr():
            sides = [side for side in (kept(node.lhs), kept(node.rhs)) if side is not None]
            return sides[0] if sides else None
        case _:
            return None


def _aggregated(node: Any) -> frozenset[str]:
    inner = kept(node.expr) or frozenset()
    named = {node.param.val} if str(node.op) == "count_values" else set()
    if node.modifier is None:
        return frozenset(named)
    given = frozenset(node.modifier.labels)
    by = node.modifier.type == grammar.AggModifierType.By
    return (given if by else inner - given) | named


def _called(node: Any) -> frozenset[str] | None:
    if node.func.name in ("scalar", "time"):
        return None
    if node.func.name == "vector":
        return frozenset()
    if node.func.name == "histogram_quantile":
        return (kept(node.args[1]) or frozenset()) - {LE}
    inner = [kept(argument) for argument in node.args]
    return next((each for each in inner if each is not None), frozenset())


# --- the rules ------------------------------------------------------------------------------------


def metrics_exist(tree: Any, text: str) -> Iterator[str]:
    """Check that every metric is published by some process."""
    for selector, _ in selectors(tree):
        if described(selector.name or "") is None:
            yield f"nobody publishes {selector.name}: take a metric of the catalogue"


def labels_exist(tree: Any, text: str) -> Iterator[str]:
    """Check that the labels in conditions exist, and can have the value that is compared."""
    for selector, _ in selectors(tree):
        what = described(selector.name or "")
        for matcher in selector.matchers.matchers if what else ():
            has = labels_of(selector.name)
            if matcher.name not in has:
                listed = ", ".join(sorted(has))
                yield f"{selector.name} has no label {matcher.name}: it has {listed}"
            elif what and matcher.name in what.labels:
                yield from _unsaid(what, matcher)


def _unsaid(what: Described, matcher: Any) -> Iterator[str]:
    says = what.labels[matcher.name]
    if isinstance(says, label_values.FirstNames) or "$" in matcher.value:
        return
    regular = matcher.op in (grammar.MatchOp.Re, grammar.MatchOp.NotRe)
    for word in matcher.value.split("|") if regular else [matcher.value]:
        if word not in {*says, label_values.OTHER} and not SPECIAL.search(word):
            listed = ", ".join(sorted(says))
            yield f"{matcher.name} of {what.name} never has the value {word!r}: it has {listed}"


def counters_grow(tree: Any, text: str) -> Iterator[str]:
    """Check that every counter is inside a function of `GROWTH`, and that no gauge is.

    A counter must not be inside a function of `SLOPES`. Series of a histogram are counters.
    """
    for selector, around in selectors(tree):
        what, grown = described(selector.name or ""), GROWTH & set(around)
        if what is None:
            continue
        if what.kind == "gauge" and grown:
            yield f"{selector.name} is a gauge: {', '.join(grown)}() is only for counters"
        if what.kind != "gauge" and not grown:
            yield f"{selector.name} only grows: take its rate, because a restart sets it to 0"
        if what.kind != "gauge" and SLOPES & set(around):
            yield f"{selector.name} only grows: take rate, which handles restarts"


def rates_come_first(tree: Any, text: str) -> Iterator[str]:
    """Check that rates are taken before sums, because a sum hides the restart of a counter."""
    for selector, around in selectors(tree):
        outer = [at for at, name in enumerate(around) if name in GROWTH]
        if outer and any(name in ("sum", "max", "min", "avg") for name in around[outer[-1] :]):
            yield f"the sum over {selector.name} is taken before its rate: take the rate first"


def quantiles_have_buckets(tree: Any, text: str) -> Iterator[str]:
    """Check that quantiles are computed from buckets, with the label `le` kept."""
    for call in _calls(tree, "histogram_quantile"):
        if LE not in (kept(call.args[1]) or ()):
            yield "histogram_quantile needs the label le: keep it in the sum"
        for selector, _ in selectors(call.args[1]):
            if not (selector.name or "").endswith("_bucket"):
                yield f"histogram_quantile needs buckets, not {selector.name}"


def sums_keep_what_is_there(tree: Any, text: str) -> Iterator[str]:
    """Check that the labels after ``by`` or ``without`` exist in the series that are aggregated."""
    for node in _nodes(tree):
        if not isinstance(node, grammar.AggregateExpr) or node.modifier is None:
            continue
        inner = kept(node.expr)
        for label in node.modifier.labels:
            if inner is not None and label not in inner:
                yield f"there is no label {label} to keep: take one of {', '.join(sorted(inner))}"


def sides_match(tree: Any, text: str) -> Iterator[str]:
    """Check that both sides of an operator have the same labels, or one side is a scalar."""
    for node in _nodes(tree):
        if not isinstance(node, grammar.BinaryExpr) or str(node.op) in SETS:
            continue
        if node.modifier is not None and node.modifier.matching is not None:
            continue
        left, right = kept(node.lhs), kept(node.rhs)
        if left is not None and right is not None and left != right:
            listed = f"{{{', '.join(sorted(left))}}} and {{{', '.join(sorted(right))}}}"
            yield f"the sides of {node.op} have different labels and never match: {listed}"


def intervals_are_grafanas(tree: Any, text: str) -> Iterator[str]:
    """Check that every window is `INTERVAL`, which Grafana adapts to the zoom of the graph.

    Only `increase` may have a fixed window, of at least `INCREASE_LEAST_S`.
    """
    for function in sorted(GROWTH | SLOPES):
        for window in re.findall(rf"\b{function}\([^\[\]]*\[([^\]]+)\]", text):
            if window == INTERVAL:
                continue
            seconds = grammar.parse_duration(window.partition(":")[0]).total_seconds()
            if function != "increase" or seconds < INCREASE_LEAST_S:
                yield f"{function} over {window}: take {INTERVAL}, or increase over hours"


def expressions_are_needed(tree: Any, text: str) -> Iterator[str]:
    """Check that a regular expression does more than compare one word, and has no anchors.

    PromQL anchors regular expressions itself.
    """
    for selector, _ in selectors(tree):
        for matcher in selector.matchers.matchers:
            if matcher.op not in (grammar.MatchOp.Re, grammar.MatchOp.NotRe):
                continue
            if not SPECIAL.search(matcher.value):
                yield f"{matcher.name}=~{matcher.value!r} compares one word: take = or !="
            if matcher.value.startswith("^") or matcher.value.endswith("$"):
                yield f"{matcher.name}=~{matcher.value!r} is anchored: PromQL adds anchors"


def one_fleet_is_meant(tree: Any, text: str) -> Iterator[str]:
    """Check that selectors have the labels job and namespace, so that fleets are not mixed."""
    for selector, _ in selectors(tree):
        compared = {matcher.name for matcher in selector.matchers.matchers}
        what = described(selector.name or "")
        if what == known.OBJECTIVE:  # a constant, which belongs to no fleet
            continue
        for label in ("namespace",) if what in known.RECORDED else ("job", "namespace"):
            if label not in compared:
                yield f"{selector.name} is not narrowed by {label}: it would mix two fleets"


Rule = Callable[[Any, str], Iterator[str]]
RULES: tuple[Rule, ...] = (
    metrics_exist,
    labels_exist,
    counters_grow,
    rates_come_first,
    quantiles_have_buckets,
    sums_keep_what_is_there,
    sides_match,
    intervals_are_grafanas,
    expressions_are_needed,
    one_fleet_is_meant,
)


def complaints(text: str, rules: tuple[Rule, ...] = RULES) -> Iterator[tuple[str, str]]:
    """Yield the complaints about a query, as pairs: name of the rule, and the reason."""
    try:
        tree = parsed(text)
    except ValueError as error:
        yield "parses", f"{text!r} is not valid PromQL: {error}"
        return
    for rule in rules:
        for why in rule(tree, text):
            yield rule.__name__, why


def _nodes(node: Any) -> list[Any]:
    found: list[Any] = []

    def visit(each: Any) -> bool:
        found.append(each)
        return True

    grammar.walk(node, visit)
    return found


def _calls(tree: Any, name: str) -> list[Any]:
    return [
        node for node in _nodes(tree) if isinstance(node, grammar.Call) and node.func.name == name
    ]
