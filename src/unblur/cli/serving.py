"""`unblur serve`, `export` and `mcp`: a saved model over HTTP, as a page of static files, and as tools for agents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unblur.cli import terminal
from unblur.cli.models import ModelPath
from unblur.cli.options import Overwrite, reads_data
from unblur.errors import CapabilityError
from unblur.registry import RECOMMENDERS
from unblur.serving.limits import ServiceLimits

_DEFAULTS = ServiceLimits()


def _limit(flag: str, meaning: str, **options: Any) -> Any:
    """An option for a limit, in a panel of its own."""
    return typer.Option(flag, help=meaning, rich_help_panel="Limits", **options)


def serve(
    model: ModelPath,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; all but this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 is any that is free.")
    ] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="A file of bearer tokens, one a line; without it, those of the variable UNBLUR_TOKEN.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Take a new model once it is in the folder, as SIGHUP does at once."),
    ] = False,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="A line for each request: its id, address, status and time.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads that score.", show_default="one for each processor"),
    ] = None,
    max_body: Annotated[
        int, _limit("--max-body", "Bytes of a request; more is answered by 413.", min=1)
    ] = _DEFAULTS.body,
    max_history: Annotated[
        int, _limit("--max-history", "Items of a history; more is answered by 422.", min=1)
    ] = _DEFAULTS.history,
    max_k: Annotated[int, _limit("--max-k", "Items of a list, and items to score.", min=1)] = _DEFAULTS.k,
    max_batch: Annotated[
        int, _limit("--max-batch", "Users of a request, and users scored at once.", min=1)
    ] = _DEFAULTS.batch,
    max_reasons: Annotated[
        int, _limit("--max-reasons", "Items of histories in a request that asks for reasons.", min=1)
    ] = _DEFAULTS.reasons,
    queue: Annotated[
        int,
        _limit(
            "--queue",
            "Users who wait or are scored; at so many, and once a request waits, others get 503 with Retry-After.",
            min=1,
        ),
    ] = _DEFAULTS.queue,
    seconds: Annotated[
        float, _limit("--seconds", "The time that a request may take; 503 with Retry-After then.", min=0.1)
    ] = _DEFAULTS.seconds,
    rate: Annotated[
        float | None,
        _limit(
            "--rate",
            "Requests a second of each token; more is answered by 429.",
            min=0.01,
            show_default="no limit",
        ),
    ] = _DEFAULTS.rate,
) -> None:
    """Serve a saved model over HTTP: recommendations, similar items and reasons as JSON, and a page at /.

    SIGTERM ends it after the requests under way. Needs the extra [bold]serve[/bold].
    """
    _needs("serve", "fastapi", "uvicorn", "prometheus_client")
    from unblur.serving.answers import Served
    from unblur.serving.running import listen, read_tokens, serve
    from unblur.serving.service import Service

    tokens = read_tokens(token_file)
    limits = ServiceLimits(
        body=max_body,
        history=max_history,
        k=max_k,
        batch=max_batch,
        reasons=max_reasons,
        queue=queue,
        seconds=seconds,
        rate=rate,
    )
    with listen(host, port, has_token=bool(tokens)) as listening:
        served = Served.load(model, limits)
        service = Service(model, served, tokens=tokens, watch=watch, threads=threads, access_log=access_log)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("unblur.serving").setLevel(logging.INFO)
        name, port = listening.getsockname()[:2]
        address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
        serve(
            service,
            listening,
            started=lambda: terminal.note(
                f"{served.name} ({served.model.spec.kind}, {len(served.labels):,} items) at {address}"
            ),
        )


def export(
    model: ModelPath,
    web: Annotated[Path, typer.Option("--web", metavar="DIR", help="A new folder for the page.")],
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            help="Weights of each item: more are closer to the model, and larger.",
            show_default="a million in all, at least 200 of each",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the page of `unblur serve` as static files with the model in them: no server, and no history leaves the browser.

    Prints how many of the model's best ten the page finds.
    """
    from unblur.data.output import OutputFolder
    from unblur.serving.answers import Served
    from unblur.serving.export import WEB, export

    place = OutputFolder(web, WEB, overwrite=overwrite, inputs=(model,)).checked()
    served = Served.load(model, ServiceLimits())
    with terminal.ProgressDisplay() as progress:
        exported = export(served, place, keep=keep, progress=progress)
    terminal.print_lines(
        f"{len(served.labels):,} items with {exported.weights:,} weights, {exported.bytes / 1e6:.1f} MB",
        f"{exported.overlap:.1%} of the model's ten best items are among the page's ten, on histories drawn by popularity",
        f"written to {web}",
    )


@reads_data
def mcp(
    model: ModelPath,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="A file or folder of interactions; with it, kinds of models can be compared.",
            show_default=False,
        ),
    ] = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Serve a saved model to an agent over stdin and stdout, by the Model Context Protocol.

    Its tools are recommend, similar, explain and info. Needs the extra [bold]mcp[/bold].
    """
    _needs("mcp", "mcp")
    from unblur.serving.agents import tools
    from unblur.serving.answers import Served

    def compare(kinds: Sequence[str]) -> str:
        """A leaderboard of kinds on the data."""
        from unblur.document.markdown import table_as_markdown
        from unblur.experiment.comparison import compare, line_up
        from unblur.experiment.comparison.page import leaderboard

        for kind in kinds:
            RECOMMENDERS.load(
                kind
            )  # no other word, since a recipe may be a path, and files are none of an agent's
        return table_as_markdown(leaderboard(compare(line_up(kinds, data=data, settings=reading))))

    served = Served.load(model, ServiceLimits())
    tools(served, None if data is None else compare).run("stdio")


def _needs(extra: str, *modules: str) -> None:
    """Raise `CapabilityError` unless the modules of an extra are installed."""
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    CapabilityError.unless(
        not missing,
        f"This command needs the extra `{extra}`; {', '.join(missing)} is not installed. "
        f"Install it with `pip install 'unblur[{extra}]'`.",
    )
