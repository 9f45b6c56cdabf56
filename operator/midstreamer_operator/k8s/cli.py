"""The command ``midstreamer-k8s``: request a certificate, show an installation, purge it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import typer

import midstreamer_operator
from midstreamer.cli import error_lines
from midstreamer.domain.errors import BadInput
from midstreamer_operator.k8s import (
    installation_status,
    kubectl,
    purge_release,
    request_certificate,
    status_lines,
)

app = typer.Typer(
    name="midstreamer-k8s",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Manage a Midstreamer installation in Kubernetes, with the rights of your kubectl.

    Try: `midstreamer-k8s status` shows all pods, and why pods that are not ready wait.
    """,
)
certs = typer.Typer(no_args_is_help=True, help="Request certificates for client identities.")
app.add_typer(certs, name="certs")

NAMESPACE = typer.Option(
    "",
    "--namespace",
    "-n",
    help="Namespace of the installation. Default: that of the kubectl context.",
)
RELEASE = typer.Option(
    "midstreamer", "--release", help="Name of the installation: its Helm release."
)
CONTEXT = typer.Option(
    "", "--context", help="Context of the kubeconfig. Default: the current context."
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"midstreamer-k8s {midstreamer_operator.__version__}")
        raise typer.Exit


@app.callback()
def before_the_verb(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version, then exit."
    ),
) -> None:
    """Accept the options that stand before the subcommand: only ``--version``."""


@certs.command()
def request(
    name: str = typer.Argument(help="Name of the client identity: desk-1 means client/desk-1."),
    directory: Path = typer.Option(  # noqa: B008 - typer reads its options so
        Path("certs"),
        "--directory",
        help="Directory for the key, the certificate and the authorities.",
    ),
    timeout: float = typer.Option(120.0, min=1.0, help="Seconds to wait for the certificate."),
    namespace: str = NAMESPACE,
    release: str = RELEASE,
    context: str = CONTEXT,
) -> None:
    """Request a certificate for a client identity. The private key is made on this machine and
    never leaves it; its file has mode 0600.

    You must be allowed to `use` the client identity of this name in the installation's namespace.

    Example: midstreamer-k8s certs request desk-1 --namespace fleet --release mid
    """
    request_certificate.named(
        name, "midstreamer.local"
    )  # a wrong name fails here, before kubectl starts
    directory = directory.absolute()

    async def work() -> None:
        place = namespace or await kubectl.namespace(context)
        async with kubectl.api(context) as api:
            domain = await request_certificate.trust_domain(api, place, release)
            me = request_certificate.named(name, domain)
            own = await request_certificate.obtained(
                api, me, place, release, timeout_s=timeout, say=_aside
            )
        path = request_certificate.kept(own, directory)
        typer.echo(
            f"{me.name}: {path}, until {own.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
        typer.echo(
            f"use it: MIDSTREAMER_CLIENT__ADDRESSES=HOST:PORT"
            f" MIDSTREAMER_CLIENT__IDENTITY={me.name}"
            f" MIDSTREAMER_SECURITY__DIRECTORY={directory} midstreamer status"
        )

    _run(work())


@app.command()
def status(namespace: str = NAMESPACE, release: str = RELEASE, context: str = CONTEXT) -> None:
    """Show how many pods are ready, why other pods wait, shards and lag of pods, and certificates.

    Shards and lag are read from the pods through the API server. Your account needs the permission
    `get` on `pods/proxy` for this.

    Example: midstreamer-k8s status --namespace fleet --release mid
    """

    async def work() -> None:
        place = namespace or await kubectl.namespace(context)
        async with kubectl.api(context) as api:
            found = await installation_status.found(api, place, release)
        for line in status_lines.shown(found, time.time()):
            typer.echo(line)

    _run(work())


@app.command()
def purge(
    yes: bool = typer.Option(False, "--yes", help="Delete without asking."),
    namespace: str = NAMESPACE,
    release: str = RELEASE,
    context: str = CONTEXT,
) -> None:
    """Delete what `helm uninstall` keeps: data, authority, password and ledger of certificates.

    The command lists the objects and asks before it deletes them.

    Example: midstreamer-k8s purge --namespace fleet --release mid
    """

    async def work() -> None:
        place = namespace or await kubectl.namespace(context)
        async with kubectl.api(context) as api:
            found = await purge_release.left(api, place, release)
            if not found:
                typer.echo(f"nothing is left of {place}/{release}")
                return
            typer.echo(f"left of {place}/{release}:")
            for each in found:
                typer.echo(f"  {each.what}")
            _sure(len(found), yes=yes)
            for each in found:
                await purge_release.remove(api, each)
        typer.echo(f"deleted: {len(found)}")

    _run(work())


def _sure(count: int, *, yes: bool) -> None:
    """Ask the user to confirm unless ``yes``; exit with code 1 when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(
            "standard input is not a terminal, so nobody can confirm: give --yes to delete"
        )
    if not typer.confirm(f"Delete these {count} objects for ever?"):
        raise typer.Exit(1)


def _aside(text: str) -> None:
    """Print to standard error what the command waits for."""
    typer.echo(f"waiting: {text}", err=True)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, by default that of the process; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return error_lines.outcome(
        lambda: app(args=words, prog_name="midstreamer-k8s"), debug=lambda: False
    )


def main() -> None:
    """Run the command and exit with its code. This is the entry point of the console script."""
    sys.exit(execute())
