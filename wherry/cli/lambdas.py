"""How commands reach the Lambda API: where it is, who asks, and errors in one line."""

import configparser
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column

from faas.client.api import Api, Signer
from faas.client.deploy import Client
from wherry.cli.settings import CREDENTIALS, REGION
from wherry.cli.state import addresses, state_dir
from wherry.errors import StartError, WherryError

Endpoint = Annotated[
    str | None,
    typer.Option(help="URL of the Lambda API; otherwise that of the Wherry that runs here."),
]
Name = Annotated[str, typer.Argument(help="Name or ARN of the function.")]

_WHOLE = ("function", "layer", "created", "changed")


def client(endpoint: str | None) -> Client:
    """Return a client of ``endpoint`` or, when None, of the Wherry that runs here.

    Raises:
        StartError: Nothing runs here.
    """
    if endpoint is not None:
        return Client(Api(endpoint.rstrip("/"), signer=signer_of(None)))
    folder = state_dir()
    parts = addresses(folder)
    if "lambda" not in parts:
        raise StartError(f"{folder}: no Lambda API among what runs, expected wherry up or run faas")
    address = parts["lambda"]
    url = address if address.startswith("http") else f"http://{address}"
    return Client(Api(url, signer=signer_of(folder / CREDENTIALS)))


@contextmanager
def spoken() -> Iterator[None]:
    """Say an expected error in one line instead of with a stack."""
    try:
        yield
    except WherryError as error:
        typer.echo(f"wherry: {error}", err=True)
        raise typer.Exit(1) from error


def whole(header: str) -> Column:
    """Return a column of a table in which nothing is cut; names and times wrap last."""
    return Column(header, overflow="fold", no_wrap=header in _WHOLE)


def told(text: str) -> None:
    """Say what is being done, on standard error."""
    typer.echo(text, err=True)


def signer_of(
    path: Path | None, region: str | None = None, environ: Mapping[str, str] = os.environ
) -> Signer | None:
    """Return what signs with the keys of the environment, or the first of a credentials file.

    Args:
        path: The file; without it, and without keys, requests go unsigned.
        region: For signatures; None: the environment's.
        environ: The environment.

    Raises:
        StartError: The file cannot be read.
    """
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    token = environ.get("AWS_SESSION_TOKEN")
    if not (key and secret):
        if path is None or not path.is_file():
            return None
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read_string(path.read_text())
            section = parser[parser.sections()[0]]
            key, secret = section["aws_access_key_id"], section["aws_secret_access_key"]
            token = section.get("aws_session_token")
        except (OSError, ValueError, configparser.Error, IndexError, KeyError):
            raise StartError(
                f"credentials {path}: cannot be read, expected an AWS credentials file; or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
    where = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or REGION
    return _signing(key, secret, token, where)


def _signing(key: str, secret: str, token: str | None, region: str) -> Signer:
    authority = import_module("botocore.auth")  # slow to load, and rarely needed
    requests = import_module("botocore.awsrequest")
    credentials = import_module("botocore.credentials").Credentials(key, secret, token)
    auth = authority.SigV4Auth(credentials, "lambda", region)

    def sign(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
        request = requests.AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        auth.add_auth(request)
        return dict(request.headers.items())

    return sign
