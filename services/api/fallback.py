"""The start without MLflow: the last good model on disk serves until the registry answers."""

from __future__ import annotations

import logging

from services.api.champion import Holder
from services.api.store import Store

log = logging.getLogger("driftloop.api")


def serve_last_good(store: Store, holder: Holder) -> None:
    """Load the newest usable copy, where nothing serves yet; a copy is verified like a download."""
    for version, folder in store.kept():
        if holder.current is not None:
            return
        try:
            champion = holder.load(folder, version, "disk")
        except Exception as error:  # noqa: BLE001  # a damaged copy: the one before it may still do
            log.warning("champion.disk_unusable version=%s error=%s", version.number, error)
            continue
        if holder.fill(champion):
            log.warning("champion.loaded_from_disk version=%s", version.number)
            return
