"""``driftloop``: the commands, their errors and their exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from driftloop import __version__
from driftloop.cli import answering, init, looking, processes, production, running
from driftloop.errors import DriftloopError
from driftloop.settings import apply_defaults


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="driftloop")
@click.option("--debug", is_flag=True, help="Show log lines and tracebacks.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Keep a tabular model in production fresh.

    A loop is a folder with a loop.toml and its windows. State lives in .driftloop/ (DRIFTLOOP_HOME).

    \b
    Examples:
      driftloop demo                      the whole story on the bundled loop
      driftloop init my-loop              write a loop.toml for a folder of windows
      driftloop monitor my-loop           check the newest window, retrain if it drifted
      driftloop up my-loop                schedules, MLflow, API and dashboard until Ctrl-C
    """
    context.obj = {"debug": debug}


for command in (
    init.init,
    *looking.COMMANDS,
    *running.COMMANDS,
    *answering.COMMANDS,
    *production.COMMANDS,
    *processes.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """The console script: one paragraph an error, 0 done, 1 the run failed, 2 wrong usage or configuration."""
    debug = "--debug" in sys.argv
    settle(debug=debug)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _stopped()
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  # the outermost boundary: whatever it is, it ends as one paragraph
        if _interrupted(error):
            _stopped()
        if isinstance(error, DriftloopError):
            _tell(str(error), debug)
            sys.exit(error.exit_code)
        _tell(
            f"Unexpected {type(error).__name__}: {error}. Run again with `driftloop --debug …` for the traceback.",
            debug,
        )
        sys.exit(1)


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: Prefect stumbles over one that comes while it starts a task."""
    from pydantic_core import PydanticSerializationError

    while error is not None and not isinstance(error, KeyboardInterrupt):
        if isinstance(error, PydanticSerializationError) and "KeyboardInterrupt" in str(error):
            return True  # of one while it writes a model down, pydantic leaves the name only
        error = error.__cause__ or error.__context__
    return error is not None


def _stopped() -> NoReturn:
    click.echo("Stopped. What was under way is picked up by the next run.", err=True)
    sys.exit(130)


def settle(*, debug: bool) -> None:
    """Telemetry off, libraries quiet, modules importable from the working folder."""
    apply_defaults(os.environ)
    sys.path.insert(0, str(Path.cwd()))  # a loop's own estimator class
    if not debug:
        import warnings

        warnings.filterwarnings("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


def _tell(message: str, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(click.style("Error: ", fg="red", bold=True) + message, err=True)


if __name__ == "__main__":
    main()
