"""The commands that run processes: serve, up, demo."""

from __future__ import annotations

COMMANDS: tuple[object, ...] = ()
