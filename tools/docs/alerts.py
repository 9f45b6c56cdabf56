"""Generate the index of runbooks: every alert, its summary, its delay, and what makes it fire."""

from __future__ import annotations

import re

from dashboards import rules
from dashboards.rules import PAGE, TICKET, Alert

INTRO = """Each alert is a file in `dashboards/alerts` and has a runbook here. An alert with the
severity `page` needs a person immediately. An alert with the severity `ticket` can wait for a
working day. In Prometheus the names of all alerts begin with `Midstreamer`. The last column says
how `make alerts-live` makes the alert fire.

The alerts select targets by the labels `job`, `namespace`, `component` and `pod`, which the
monitors of the chart set. The value `monitoring.rules.enabled` installs the alerts. Set
`monitoring.rules.labels` to the labels by which your Prometheus selects rules. The annotation
`runbook_url` is the path of the runbook in this repository. In the template of your Alertmanager,
put the address of your copy of these pages before the path. The annotation `dashboard` is the uid
of the dashboard to look at.

The commands in the runbooks assume a release `mid` in a namespace `fleet`.
"""
TITLES = {PAGE: "Alerts that page", TICKET: "Alerts that open a ticket"}
"""For each severity of alerts, the heading above the table of its alerts."""


def page(note: str) -> str:
    """Return the index of runbooks as Markdown; ``note``, its first line, says it is generated."""
    parts = [note, "# Runbooks\n", INTRO]
    for severity, title in TITLES.items():
        several = [alert for alert in rules.alerts() if alert.severity == severity]
        rows = "".join(map(_row, several))
        head = "| alert | summary | fires after | cause in the live test |\n|---|---|---|---|\n"
        parts.append(f"## {title}\n\n{head}{rows}")
    names = "\n".join(alert.name for alert in rules.alerts())
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    return "\n".join(parts)


def _row(alert: Alert) -> str:
    says = re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", alert.summary)
    return f"| [{alert.name}]({alert.name}.md) | {says} | {alert.wait} | {alert.fault} |\n"
