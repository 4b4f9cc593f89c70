"""A category's name: how training and the API spell one value the same. Apart from pandas, which the API has not."""

from __future__ import annotations

import numpy as np

MISSING = "(missing)"  # a null category is a category of its own


def category(value: object) -> str:
    """One value as its category's name: 2.0 and 2 are one, and so are a bool and its word however it is written."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.capitalize()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
