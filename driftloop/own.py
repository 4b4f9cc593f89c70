"""A loop's own modules: imported from its folder, and trusted in stored models, because its loop.toml names them."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

from driftloop.contract import Loop

NAMES = ("DRIFTLOOP_OWN_MODULES", "PYTHONPATH")  # tell the processes that this one starts
# of these single types are trusted, see artifact.REVIEWED_TYPES
REVIEWED_PACKAGES = {"sklearn", "numpy", "scipy", "xgboost", "lightgbm", "catboost", "driftloop", "builtins"}


@dataclass(frozen=True)
class Own:
    """Modules whose types are trusted, and the folders beside the usual ones from which modules are imported."""

    modules: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @classmethod
    def admitted(cls) -> Own:
        """What this process has admitted, or was told by the one that started it."""
        return cls(
            *(tuple(os.environ.get(name, "").split(os.pathsep)) if os.environ.get(name) else () for name in NAMES)
        )

    def admit(self) -> None:
        """Let this process, and those it starts, import the modules and load models that hold their types."""
        before = Own.admitted()
        for name, had, added in zip(NAMES, (before.modules, before.folders), (self.modules, self.folders), strict=True):
            if new := [one for one in added if one not in had]:
                os.environ[name] = os.pathsep.join([*had, *new])
        sys.path[1:1] = [folder for folder in self.folders if folder not in sys.path]  # after the working folder

    def defines(self, name: str) -> bool:
        """Whether a dotted name is that of a class or function which one of the modules defines.

        What a module merely imports is none, and neither are its submodules and methods: a stored model that names
        ``features.os.popen`` would run commands. Imports the module. Raises what an import of it raises.
        """
        path, _, attribute = name.rpartition(".")
        package = name.partition(".")[0]
        if package not in self.modules:
            return False
        importlib.import_module(package)
        try:
            found = getattr(importlib.import_module(path), attribute)
        except (ImportError, AttributeError):  # a name that the stored model made up
            return False
        return isinstance(found, type | FunctionType) and (found.__module__, found.__qualname__) == (path, attribute)


def admit(folder: Path, loop: Loop) -> None:
    """Admit the modules that loop.toml names; they are in ``folder``, if not where Python looks anyway."""
    named = sorted(modules_of(loop))
    here = any((folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file() for name in named)
    Own(tuple(named), (str(folder.absolute()),) if here else ()).admit()


def modules_of(loop: Loop) -> set[str]:
    """The packages of its recipes that are neither reviewed nor Python's own."""
    paths = {path for recipe in loop.model.recipes for path in (recipe.estimator, recipe.preprocessing)}
    named = {path.partition(".")[0] for path in paths if "." in path}
    return named - REVIEWED_PACKAGES - sys.stdlib_module_names


def sources(folder: Path, loop: Loop) -> str:
    """A hash of the files of the modules that loop.toml names, "" where none lies in the working folder or ``folder``.

    Of a module that is in both, the one that is imported counts. What is installed is not looked at.
    """
    found = [file for name in sorted(modules_of(loop)) for file in _files(name, (Path.cwd(), folder))]
    digest = hashlib.blake2b(digest_size=8)
    for name, file in found:
        digest.update(f"{name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest() if found else ""


def _files(name: str, places: tuple[Path, ...]) -> list[tuple[str, Path]]:
    """The module's files in the first place that has it, each with its name from there."""
    for place in places:
        if (place / name / "__init__.py").is_file():
            return [(str(file.relative_to(place)), file) for file in sorted((place / name).rglob("*.py"))]
        if (place / f"{name}.py").is_file():
            return [(f"{name}.py", place / f"{name}.py")]
    return []
