"""``wherry image``: a container image turned into layers and a function."""

import asyncio
import hashlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from faas.client.deploy import Settings
from faas.client.layers import Layers
from faas.oci.documents import ImageError
from faas.oci.image import Image
from faas.oci.images import opened
from faas.oci.port import Place
from faas.oci.ported import Ported, ported
from wherry.cli.functions import shown, variable
from wherry.cli.lambdas import Endpoint, client, spoken, told
from wherry.cli.settings import cache_folder
from wherry.errors import StartError

app = typer.Typer(help="Container images: turn one into layers.", no_args_is_help=True)

_DIGITS = 16
_STEP = 48


@app.callback()
def images() -> None:
    """Container images: turn one into layers."""


@app.command("layers")
def layers(
    image: Annotated[str, typer.Argument(help="Archive, layout folder or [HOST/]NAME[:TAG].")],
    *,
    name: Annotated[str | None, typer.Option(help="Of the function; else the image's.")] = None,
    deploy: Annotated[bool, typer.Option("--deploy", help="Make a function of it too.")] = False,
    handler: Annotated[str, typer.Option(help="In place of what its CMD says.")] = "",
    runtime: Annotated[str, typer.Option(help="In place of what its command says.")] = "",
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE beside the image's.")] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds for one call, 1 to 900.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB, 128 to 10240.")] = None,
    without: Annotated[
        list[Place] | None, typer.Option(help="What to leave out; may be repeated.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Turn an image into Lambda layers, and with --deploy into a function that uses them.

    A layer whose content is published already is used again.
    """
    begun = time.monotonic()
    with spoken():
        extra = dict(variable(each) for each in env or [])
        api = client(endpoint)
        found, made = asyncio.run(_ported(image, frozenset(without or ()), runtime, handler))
        arns, states = [], []
        for layer in made.layers:
            key = f"image-{hashlib.sha256(layer.body).hexdigest()[:_DIGITS]}"
            said = f"layers {', '.join(str(each + 1) for each in layer.sources)} of {image}"
            arn, new = Layers(api.api).published(key, layer.body, description=said)
            arns.append(arn)
            states.append("published" if new else "unchanged")
            told(f"{states[-1]} {key}")
        Console().print(_report(found, made, arns, states))
        _remarks(made)
        typer.echo(f"{image}: {len(arns)} layers in {time.monotonic() - begun:.1f} s")
        for arn in arns:
            typer.echo(arn)
        if not deploy:
            return
        if made.recognised is None:
            raise ImageError(made.unrecognised)
        if made.code is None:
            raise ImageError(f"image {image}: no files of the function's own, expected some")
        settings = Settings(
            handler=made.recognised.handler,
            runtime=made.recognised.runtime,
            environment={**made.recognised.environment, **extra},
            layers=arns,
            timeout=timeout,
            memory_mib=memory,
        )
        done = api.put(name or _named(image), made.code, settings.request(), told)
        shown(done)


async def _ported(
    text: str, without: frozenset[Place], runtime: str, handler: str
) -> tuple[Image, Ported]:
    cache = cache_folder()
    await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
    async with opened(text, cache) as (source, image):
        await source.fetch(image, told)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".porting-") as scratch:
            made = await asyncio.to_thread(
                ported,
                image,
                Path(scratch),
                without=without,
                runtime=runtime,
                handler=handler,
                progress=told,
            )
    return image, made


def _report(image: Image, made: Ported, arns: list[str], states: list[str]) -> Table:
    table = Table("", "image layer", "size", "taken", "goes to", "left out", box=None)
    for index, (blob, step) in enumerate(zip(image.layers, image.config.steps(), strict=True)):
        mine = [each for each in made.sorted.taken if each.layer == index]
        counts = {
            place: [each for each in mine if each.place is place]
            for place in Place
            if any(each.place is place for each in mine)
        }
        taken = ", ".join(
            f"{place}: {len(files)} ({_size(sum(each.file.size for each in files))})"
            for place, files in counts.items()
        )
        into = [
            f"{':'.join(arn.split(':')[-2:])} {state}"
            for layer, arn, state in zip(made.layers, arns, states, strict=True)
            if index in layer.sources
        ]
        into += ["code"] if index in made.code_sources else []
        removes = [f"removes {made.removed[index]}"] if made.removed[index] else []
        skipped = made.sorted.skipped.get(index, Counter())
        table.add_row(
            str(index + 1),
            _short(step) or blob.diff_id.removeprefix("sha256:")[:12],
            _size(blob.size),
            ", ".join([taken or "no relevant files", *removes]),
            "\n".join(into) or "-",
            ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "-",
        )
    return table


def _remarks(made: Ported) -> None:
    known = made.recognised
    if known is None:
        typer.echo(f"function: not recognised: {made.unrecognised}")
    else:
        typer.echo(f"function: {known.runtime}, handler {known.handler}")
        typer.echo(f"environment: {', '.join(known.environment) or 'none'}")
        if known.dropped:
            typer.echo(f"environment left out: {', '.join(known.dropped)}")
    for warning in made.warnings:
        typer.echo(f"note: {warning}")


def _short(step: str) -> str:
    text = " ".join(step.replace("/bin/sh -c #(nop)", "").replace("/bin/sh -c ", "RUN ").split())
    return text if len(text) <= _STEP else f"{text[: _STEP - 1]}…"


def _size(size: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _named(image: str) -> str:
    """Return a function's name for an image: the last part of its own."""
    last = image.rpartition("@")[0] or image
    last = last.rpartition("/")[2].partition(":")[0].partition(".")[0]
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in last)
    if not name or not name.isascii():
        raise StartError(f"image {image}: gives no name of a function, expected --name")
    return name
