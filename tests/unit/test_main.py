"""What ends a command: Ctrl-C is told as such, wherever it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer

from driftloop.cli import __main__ as main


class Inner(BaseModel):
    @model_serializer(mode="wrap")
    def written(self, _: Callable[[Any], Any]) -> Any:
        raise KeyboardInterrupt


class Outer(BaseModel):
    inner: Inner = Inner()


def raised(what: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception, match="KeyboardInterrupt") as caught:
        what()
    return caught.value


@pytest.mark.parametrize("model", [Inner(), Outer()])
def test_ctrl_c_while_a_model_is_written_down_ends_like_any_other(
    model: BaseModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: Any) -> None:
        raise raised(model.model_dump_json)

    monkeypatch.setattr(main, "cli", stopped)
    monkeypatch.setattr(main, "settle", lambda **_: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("Stopped.")


@pytest.mark.parametrize(
    ("behind", "code", "said"),
    [(KeyboardInterrupt(), 130, "Stopped."), (ValueError("odd"), 1, "Error: Unexpected RuntimeError: it broke.")],
)
def test_what_is_behind_an_error_says_how_it_ends(
    behind: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("it broke") from behind

    monkeypatch.setattr(main, "cli", broken)
    monkeypatch.setattr(main, "settle", lambda **_: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(said)
