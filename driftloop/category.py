"""A category's name: how training and the API spell one value the same. Apart from pandas, which the API has not."""

from __future__ import annotations

import re

import numpy as np

MISSING = "(missing)"  # a null category is a category of its own
WHOLE = re.compile(r"(0|-?[1-9][0-9]*)\.0")  # how pandas writes whole numbers of a column with a null; not 01.0


def category(value: object) -> str:
    """One value as its category's name: 2.0 and 2 are one, and so are a bool and its word however it is written.

    >>> [category(value) for value in (2.0, "2.0", "02", True, "TRUE")]
    ['2', '2', '02', 'True', 'True']
    """
    if isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.capitalize()
        found = value.endswith(".0") and WHOLE.fullmatch(value)
        return found[1] if found else value
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
