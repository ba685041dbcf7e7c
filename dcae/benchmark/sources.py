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
    "dcae.data.storage.cache",
    "dcae.data.workers",
    "dcae.training.checkpoint",
    "dcae.training.distributed",
    "dcae.training.logging",
    "dcae.training.state",
    "dcae.training.stopping",
    "dcae.training.trackers",
)

IMAGE_FILES = ("ffhq", "folder", "imagenet", "mapillary-vistas", "mjhq-30k", "sa-1b", "webdataset")

# Modules that matter only to jobs whose entries are of a kind, or of one of several: an edit to U-ViT must not re-train
# a DiT, and one to the reading of archives must not re-train what sees scenes.
ONLY_FOR_KIND: dict[str, str | tuple[str, ...]] = {
    "dcae.autoencoders.dc_ae": "dc-ae",
    "dcae.autoencoders.dc_ae_blocks": "dc-ae",
    "dcae.autoencoders.dc_ae_config": "dc-ae",
    "dcae.autoencoders.conventions": "diffusers",
    "dcae.autoencoders.from_diffusers": "diffusers",
    "dcae.autoencoders.latent_statistics": "diffusers",
    "dcae.autoencoders.original_layout": "dc-ae",
    "dcae.autoencoders.released": "dc-ae",
    "dcae.autoencoders.space_to_channel": "space-to-channel",
    "dcae.data.scenes.dataset": "scenes",
    "dcae.data.photographs": "photographs",
    "dcae.data.image_sizes": IMAGE_FILES,
    "dcae.data.images": IMAGE_FILES,
    "dcae.data.layouts.index": IMAGE_FILES,
    "dcae.data.storage.archives": IMAGE_FILES,
    "dcae.data.layouts.ffhq": "ffhq",
    "dcae.data.layouts.imagenet": "imagenet",
    "dcae.data.layouts.mjhq": "mjhq-30k",
    "dcae.data.layouts.sa_1b": "sa-1b",
    "dcae.data.layouts.webdataset": "webdataset",
    "dcae.diffusion.models.dit": "dit",
    "dcae.diffusion.models.pixart": "pixart",
    "dcae.diffusion.models.u_vit": "u-vit",
}


def _file(module: str, roots: tuple[Path, ...]) -> Path | None:
    """The source file of a module under one of the root folders, or ``None`` if it is in none."""
    for root in roots:
        path = root.joinpath(*module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@functools.cache
def _syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _skeleton(node: object) -> str:
    """A syntax tree as text without positions and empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_skeleton, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{name}={_skeleton(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(fields)})"


@functools.cache
def _code(path: Path) -> str:
    """The code of a file without docstrings, comments and formatting."""
    tree = ast.parse(path.read_text(), filename=str(path))
    for node in ast.walk(tree):
        may_have_docstring = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if may_have_docstring and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _skeleton(tree)


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


def _source_of(node: ast.ImportFrom, module: str, file: Path) -> str:
    """The module that ``from … import`` reads, also where it is given relative to the module at hand."""
    if not node.level:
        return node.module
    package = module.split(".")
    parents = package[: len(package) - node.level + (file.name == "__init__.py")]
    return ".".join([*parents, *([node.module] if node.module else [])])


@functools.cache
def _imported(module: str, roots: tuple[Path, ...]) -> frozenset[str]:
    """Modules under the roots that a module imports, at its top or inside functions."""
    found: set[str] = set()
    file = _file(module, roots)
    for node in ast.walk(_syntax_tree(file)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = _source_of(node, module, file)
            source = _file(name, roots)
            offered = _offered_by(source) if source and source.name == "__init__.py" else {}
            for alias in node.names:
                inner = f"{name}.{offered.get(alias.name, alias.name)}"
                found.add(inner if _file(inner, roots) else name)
    return frozenset(name for name in found if _file(name, roots))


def reached_modules(starts: tuple[str, ...], kinds: frozenset[str] | None, roots: tuple[Path, ...]) -> set[str]:
    """The modules and all that they reach through imports.

    Args:
        starts: modules by name.
        kinds: of the entries at hand; modules that only matter to other kinds are left out. ``None`` leaves out none.
        roots: folders that modules are looked for in; others are not followed.
    """
    reached: set[str] = set()
    waiting = set(starts)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        for name in _imported(module, roots) - reached:
            if _matters(name, kinds) and not name.startswith(NOT_DECISIVE):
                waiting.add(name)
    return reached


def _matters(module: str, kinds: frozenset[str] | None) -> bool:
    only = ONLY_FOR_KIND.get(module)
    return only is None or kinds is None or not kinds.isdisjoint((only,) if isinstance(only, str) else only)


def _root_of(package: str) -> Path | None:
    """The folder that holds a top-level package or module, which is not imported for it."""
    specification = find_spec(package)
    if specification is None:
        return None
    if specification.submodule_search_locations:
        return Path(next(iter(specification.submodule_search_locations))).parent
    return Path(specification.origin).parent if specification.origin else None


@functools.cache
def code_digest(starts: tuple[str, ...], kinds: frozenset[str] = frozenset(), factory: str | None = None) -> str:
    """Sha256 (first 16 hex digits) of the code that a step reaches from its modules.

    Args:
        starts: modules of the step, for example ``("dcae.training.autoencoder",)``.
        kinds: kinds of the entries at hand; modules of other kinds do not count.
        factory: ``package.module:callable`` of a ``python`` entry; its own package counts too, and what that uses.
    """
    roots = (REPOSITORY,)
    reached = reached_modules(starts, kinds, roots)
    if factory:
        module = factory.split(":")[0]
        root = _root_of(module.split(".")[0])
        roots = (REPOSITORY, root) if root else roots
        if _file(module, roots):
            reached |= reached_modules((module,), None, roots)
    parts = [f"{module}\n{_code(_file(module, roots))}" for module in sorted(reached)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
