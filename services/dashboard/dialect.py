"""How spreadsheets write a CSV file: what stands before its header, its separator, its numbers and its accents."""

from __future__ import annotations

import re
import unicodedata

SEPARATORS = ",;\t"
PREFACE = re.compile('\ufeff?(?:"?sep=([,;\t])"?\r?\n)?', re.IGNORECASE)
SWAP = str.maketrans(",.", ".,")


def begins(text: str) -> tuple[str, str]:
    r"""(a byte order mark and a line that names the separator, where there are such; the separator).

    >>> begins("sep=;\nfee;plan\n"), begins("fee\tplan\n")
    (('sep=;\n', ';'), ('', '\t'))
    """
    found = PREFACE.match(text)
    preface, named = (found[0], found[1]) if found else ("", None)
    header = text[len(preface) :].partition("\n")[0]
    return preface, named or max(SEPARATORS, key=header.count)


def composed(name: str) -> str:
    """The name with each accent and its letter as one character: macOS writes them apart."""
    return unicodedata.normalize("NFC", name)


def swapped(number: str) -> str:
    """The number with its commas for points and its points for commas.

    >>> swapped("1,5"), swapped("1.234,5")
    ('1.5', '1,234.5')
    """
    return number.translate(SWAP)
