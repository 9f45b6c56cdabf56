"""``midstreamer certs``: an authority of one's own, the identities it certifies, what they say."""

from __future__ import annotations

from pathlib import Path

import typer

from midstreamer.cli import identities, settings
from midstreamer.client.config import ClientSettings
from midstreamer.domain.errors import BadInput
from midstreamer.runtime.config import SecuritySettings
from midstreamer.security import files, local_issuer

commands = typer.Typer(no_args_is_help=True, help="Make and show certificates.")

DAYS_MAX = 36_500
REQUEST_BYTES_MAX = 65_536
DIRECTORY = typer.Option(None, "--directory", help="Instead of security.directory.")


@commands.command()
def init(context: typer.Context, directory: str | None = DIRECTORY) -> None:
    """Make a certificate authority: a key (mode 0600) and its certificate.

    Example: midstreamer certs init --directory certs
    """
    chosen = _security(context, directory)
    files.init_authority(chosen.directory, chosen.trust_domain)
    _say(f"authority of {chosen.trust_domain}: {files.authority_path(chosen.directory)}")


@commands.command()
def issue(
    context: typer.Context,
    names: list[str] = typer.Argument(help="<kind>/<id>, as many as wanted."),
    directory: str | None = DIRECTORY,
    days: float = typer.Option(90.0, help="How long they are valid."),
    allow: bool = typer.Option(True, help="Put them on the allowlist too."),
) -> None:
    """Certify identities with the authority here.

    Example: midstreamer certs issue client/laptop agent/a1
    """
    _check_days(days)
    chosen = _security(context, directory)
    signer = files.open_authority(chosen.directory)
    members = [identities.named(name, chosen.trust_domain) for name in names]
    for member in members:
        path = files.issue(signer, member, chosen.directory, days=days)
        _say(f"{member.name}: {path}")
    if allow:
        identities.allow(_allowlist(chosen), members)


@commands.command()
def sign(
    context: typer.Context,
    request: Path = typer.Argument(metavar="REQUEST", help="File of the signing request, PEM."),
    name: str = typer.Argument(metavar="NAME", help="<kind>/<id> that it is to be for."),
    directory: str | None = DIRECTORY,
    days: float = typer.Option(90.0, help="How long the certificate is valid."),
    out: Path | None = typer.Option(None, "--out", help="Write it there instead of printing it."),
) -> None:
    """Certify somebody else's key by a signing request: it must ask for this identity's URI alone.

    Prints the certificate chain as PEM. The allowlist stays as it is.

    Example: midstreamer certs sign a1.csr agent/a1 --out a1.pem
    """
    _check_days(days)
    chosen = _security(context, directory)
    member = identities.named(name, chosen.trust_domain)
    chain = local_issuer.signed(chosen.directory, _request(request), member, days=days)
    if out is None:
        typer.echo(files.pem_of(chain).decode(), nl=False)
        return
    try:
        out.write_bytes(files.pem_of(chain))
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}; name a file in a folder here") from error
    _say(f"{member.name}: {out}")


@commands.command()
def show(context: typer.Context, directory: str | None = DIRECTORY) -> None:
    """Show every certificate here: who, until when, which uses. Never a key."""
    from rich.table import Table

    from midstreamer.console.terminal import console_here

    chosen = _security(context, directory)
    paths = sorted(chosen.directory.glob("*/*.pem"))
    own = files.authority_path(chosen.directory)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("identity", "valid until", "days left", "uses", "serial", "mode"):
        table.add_column(heading, overflow="fold")
    for path in [*([own] if own.exists() else []), *paths]:
        told = files.describe(path)
        table.add_row(
            ", ".join(told.uris),
            f"{told.not_after:%Y-%m-%d}",
            f"{told.days_left:.1f}",
            ", ".join(told.usages) or "signs",
            told.serial,
            told.mode,
        )
    if not table.rows:
        raise BadInput(f"no certificate in {chosen.directory}; run `midstreamer certs init`")
    console_here().print(table)


def _check_days(days: float) -> None:
    """Refuse a validity that no certificate can have."""
    if not 0 < days <= DAYS_MAX:
        raise BadInput(f"--days {days:g}: must be above 0 and at most {DAYS_MAX:,}")


def _request(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(REQUEST_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"signing request {path}: {error.strerror}") from error
    if len(data) > REQUEST_BYTES_MAX:
        raise BadInput(
            f"signing request {path}: more than {REQUEST_BYTES_MAX:,} bytes; is it one at all?"
        )
    return data


def _security(context: typer.Context, directory: str | None) -> SecuritySettings:
    chosen = settings.of(context, ClientSettings, {"security.directory": directory})
    return chosen.security


def _allowlist(chosen: SecuritySettings) -> Path:
    return chosen.allowlist or chosen.directory / identities.ALLOWLIST


def _say(text: str) -> None:
    from midstreamer.console.terminal import console_here

    console_here().print(text, soft_wrap=True)
