"""``midstreamer certs``: create a certificate authority, issue certificates, and show them."""

from __future__ import annotations

from pathlib import Path

import typer

from midstreamer.cli import peer_credentials, settings
from midstreamer.client.config import ClientSettings
from midstreamer.domain.errors import BadInput
from midstreamer.runtime.config import SecuritySettings
from midstreamer.security import files, local_issuer

commands = typer.Typer(no_args_is_help=True, help="Make and show certificates.")

DAYS_MAX = 36_500
"""Longest validity of a certificate, in days."""
REQUEST_BYTES_MAX = 65_536
"""Largest file of a signing request, in bytes."""
DIRECTORY = typer.Option(
    None, "--directory", help="Folder of certificates. Default: security.directory."
)


@commands.command()
def init(context: typer.Context, directory: str | None = DIRECTORY) -> None:
    """Create a certificate authority: a key (mode 0600) and its certificate.

    Example: midstreamer certs init --directory certs
    """
    chosen = _security(context, directory)
    files.init_authority(chosen.directory, chosen.trust_domain)
    _say(f"authority of {chosen.trust_domain}: {files.authority_path(chosen.directory)}")


@commands.command()
def issue(
    context: typer.Context,
    names: list[str] = typer.Argument(help="One or more identities, each <kind>/<id>."),
    directory: str | None = DIRECTORY,
    days: float = typer.Option(90.0, help="Validity in days."),
    allow: bool = typer.Option(True, help="Add the identities to the allowlist."),
) -> None:
    """Issue certificates for identities, signed by the authority in the folder.

    Example: midstreamer certs issue client/laptop agent/a1
    """
    _check_days(days)
    chosen = _security(context, directory)
    signer = files.open_authority(chosen.directory)
    members = [peer_credentials.named(name, chosen.trust_domain) for name in names]
    for member in members:
        path = files.issue(signer, member, chosen.directory, days=days)
        _say(f"{member.name}: {path}")
    if allow:
        peer_credentials.allow(_allowlist(chosen), members)


@commands.command()
def sign(
    context: typer.Context,
    request: Path = typer.Argument(metavar="REQUEST", help="File with the signing request, PEM."),
    name: str = typer.Argument(metavar="NAME", help="Identity to certify, <kind>/<id>."),
    directory: str | None = DIRECTORY,
    days: float = typer.Option(90.0, help="Validity in days."),
    out: Path | None = typer.Option(
        None, "--out", help="Write the certificate to this file instead of printing it."
    ),
) -> None:
    """Sign a certificate request made elsewhere. The request must ask for this identity's URI only.

    Prints the certificate chain as PEM. Does not change the allowlist.

    Example: midstreamer certs sign a1.csr agent/a1 --out a1.pem
    """
    _check_days(days)
    chosen = _security(context, directory)
    member = peer_credentials.named(name, chosen.trust_domain)
    chain = local_issuer.signed(chosen.directory, _request(request), member, days=days)
    if out is None:
        typer.echo(files.pem_of(chain).decode(), nl=False)
        return
    try:
        out.write_bytes(files.pem_of(chain))
    except OSError as error:
        raise BadInput(
            f"--out {out}: {error.strerror}; name a file in an existing folder"
        ) from error
    _say(f"{member.name}: {out}")


@commands.command()
def show(context: typer.Context, directory: str | None = DIRECTORY) -> None:
    """Show every certificate in the folder: identity, expiry, uses. Never shows a key."""
    from rich.table import Table

    from midstreamer.console.terminal import console_here

    chosen = _security(context, directory)
    paths = sorted(chosen.directory.glob("*/*.pem"))
    authority = files.authority_path(chosen.directory)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("identity", "valid until", "days left", "uses", "serial", "mode"):
        table.add_column(heading, overflow="fold")
    for path in [*([authority] if authority.exists() else []), *paths]:
        described = files.describe(path)
        table.add_row(
            ", ".join(described.uris),
            f"{described.not_after:%Y-%m-%d}",
            f"{described.days_left:.1f}",
            ", ".join(described.usages) or "signs",
            described.serial,
            described.mode,
        )
    if not table.rows:
        raise BadInput(f"no certificate in {chosen.directory}; run `midstreamer certs init`")
    console_here().print(table)


def _check_days(days: float) -> None:
    """Raise BadInput for a validity that a certificate cannot have."""
    if not 0 < days <= DAYS_MAX:
        raise BadInput(f"--days {days:g}: the validity must be above 0 and at most {DAYS_MAX:,}")


def _request(path: Path) -> bytes:
    """Return the content of a signing request's file."""
    try:
        with path.open("rb") as file:
            data = file.read(REQUEST_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"signing request {path}: {error.strerror}") from error
    if len(data) > REQUEST_BYTES_MAX:
        raise BadInput(
            f"signing request {path} is larger than {REQUEST_BYTES_MAX:,} bytes: name a file with"
            " one PEM signing request"
        )
    return data


def _security(context: typer.Context, directory: str | None) -> SecuritySettings:
    """Return the security settings; ``directory``, if given, replaces the configured folder."""
    chosen = settings.of(context, ClientSettings, {"security.directory": directory})
    return chosen.security


def _allowlist(chosen: SecuritySettings) -> Path:
    """Return the path of the allowlist."""
    return chosen.allowlist or chosen.directory / peer_credentials.ALLOWLIST


def _say(text: str) -> None:
    """Print one line."""
    from midstreamer.console.terminal import console_here

    console_here().print(text, soft_wrap=True)
