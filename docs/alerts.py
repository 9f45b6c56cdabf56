"""The index of runbooks: every alert, what it says, and what makes it."""

from __future__ import annotations

import re

from dashboards import rules
from dashboards.rules import PAGE, TICKET, Alert

INTRO = """Each alert is a file of `dashboards/alerts` and has a page here. One that pages wants
somebody now; one that makes a ticket wants somebody on a working day. In Prometheus their names
begin with `Midstreamer`. The last column says what `make alerts-live` does to make the alert fire.

Alerts select by the labels `job`, `namespace`, `component` and `pod` of a target; the chart's
monitors set them. `monitoring.rules.enabled` installs the alerts, `monitoring.rules.labels` makes
your Prometheus choose them. The annotation `runbook_url` is the path of the page in this
repository; write where your copy of these pages is served before it, in the template of your
Alertmanager. `dashboard` is the identity of the board to look at.

Commands speak of a release `mid` in a namespace `fleet`.
"""
TITLES = {PAGE: "Somebody is called", TICKET: "Somebody has a ticket"}


def page(note: str) -> str:
    """The whole page."""
    parts = [note, "# Runbooks\n", INTRO]
    for severity, title in TITLES.items():
        several = [alert for alert in rules.alerts() if alert.severity == severity]
        rows = "".join(map(_row, several))
        head = "| alert | says | after | made by |\n|---|---|---|---|\n"
        parts.append(f"## {title}\n\n{head}{rows}")
    names = "\n".join(alert.name for alert in rules.alerts())
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    return "\n".join(parts)


def _row(alert: Alert) -> str:
    says = re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", alert.summary)
    return f"| [{alert.name}]({alert.name}.md) | {says} | {alert.wait} | {alert.fault} |\n"
