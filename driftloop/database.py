"""Addresses of databases."""

from __future__ import annotations

import sqlalchemy as sa

from driftloop.errors import ContractError
from driftloop.settings import without_password


def database_url(address: str, key: str) -> sa.URL:
    """Raises ContractError naming ``key``, by which it was given, when SQLAlchemy knows no such address."""
    try:
        url = sa.engine.make_url(address)
        url.get_dialect()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise ContractError(
            f"{key} = {without_password(address)}: expected a database's address such as "
            f"postgresql+psycopg://user:password@host/name ({error})."
        ) from None
    return url
