# SPDX-License-Identifier: Apache-2.0
"""A digest of the project's code that decides a step's result, and of no other code.

Snakemake does not see edits to imported modules, so every rule carries this digest as a parameter. It covers the
modules that a step reaches through imports. Comments, docstrings and formatting do not count, and neither do modules
that decide no result, such as how progress is shown. What a configuration says is part of its own digest.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_DECISIVE = (
    "dcae.benchmark",
    "dcae.training.checkpoint",
    "dcae.training.progress",
    "dcae.training.state",
    "dcae.training.stopping",
)

# Modules that matter only to jobs whose entries are of a kind: an edit to U-ViT must not re-train a DiT.
ONLY_FOR_KIND = {
    "dcae.autoencoders.dc_ae": "dc-ae",
    "dcae.autoencoders.dc_ae_blocks": "dc-ae",
    "dcae.autoencoders.dc_ae_config": "dc-ae",
    "dcae.autoencoders.from_diffusers": "diffusers",
    "dcae.autoencoders.space_to_channel": "space-to-channel",
    "dcae.data.scenes": "scenes",
    "dcae.data.photographs": "photographs",
    "dcae.data.folder": "folder",
    "dcae.diffusion.dit": "dit",
    "dcae.diffusion.u_vit": "u-vit",
}


def _file(module: str, root: Path) -> Path | None:
    """The source file of a module under a root folder, or ``None`` if it is not there."""
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache
def _code(path: Path) -> str:
    """The code of a file without docstrings, comments and formatting."""
    tree = ast.parse(path.read_text(), filename=str(path))
    for node in ast.walk(tree):
        may_have_docstring = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if may_have_docstring and ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


@functools.cache
def _offered_by(package: Path) -> dict[str, str]:
    """Which submodule each name comes from that a package's ``__init__.py`` offers through ``lazy_loader.attach``."""
    for node in ast.walk(_syntax_tree(package)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "attach":
            for keyword in node.keywords:
                if keyword.arg == "submod_attrs":
                    submodules = ast.literal_eval(keyword.value)
                    return {name: submodule for submodule, names in submodules.items() for name in names}
    return {}


def _imported(module: str, root: Path) -> set[str]:
    """Modules under the root that a module imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(_syntax_tree(_file(module, root))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            source = _file(node.module, root)
            offered = _offered_by(source) if source and source.name == "__init__.py" else {}
            for alias in node.names:
                submodule = offered.get(alias.name, alias.name)
                inner = f"{node.module}.{submodule}"
                found.add(inner if _file(inner, root) else node.module)
    return {name for name in found if _file(name, root)}


def reached_modules(starts: tuple[str, ...], kinds: frozenset[str], root: Path) -> set[str]:
    """The modules and all that they reach through imports, for a job whose entries are of the given kinds."""
    reached: set[str] = set()
    waiting = set(starts)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        for name in _imported(module, root) - reached:
            decisive = not name.startswith(NOT_DECISIVE)
            if decisive and ONLY_FOR_KIND.get(name, name) in (*kinds, name):
                waiting.add(name)
    return reached


@functools.cache
def code_digest(starts: tuple[str, ...], kinds: frozenset[str] = frozenset(), factory: str | None = None) -> str:
    """Sha256 (first 16 hex digits) of the code that a step reaches from its modules.

    Args:
        starts: modules of the step, for example ``("dcae.training.autoencoder",)``.
        kinds: kinds of the entries at hand; modules of other kinds do not count.
        factory: ``package.module:callable`` of a ``python`` entry, whose own package counts too.
    """
    files = {module: _file(module, REPOSITORY) for module in reached_modules(starts, kinds, REPOSITORY)}
    if factory:
        module = factory.split(":")[0]
        specification = find_spec(module.split(".")[0])
        if specification and specification.origin and specification.origin.endswith(".py"):
            origin = Path(specification.origin)
            root = origin.parent.parent if origin.name == "__init__.py" else origin.parent
            files |= {name: _file(name, root) for name in reached_modules((module,), kinds, root)}
    parts = [f"{module}\n{_code(path)}" for module, path in sorted(files.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
