# SPDX-License-Identifier: Apache-2.0
"""The digest of code follows imports and ignores what cannot change a result."""

from pathlib import Path

import pytest

from dcae.benchmark import sources
from dcae.benchmark.entries import ImageFilesEntry


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small project: a step that reaches a helper through a lazily loading package."""
    files = {
        "project/__init__.py": "",
        "project/step.py": '"""A step."""\nfrom project.tools import helper\n\ndef run():\n    return helper()\n',
        "project/tools/__init__.py": (
            "import lazy_loader as lazy\n"
            '__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"a": ["helper"], "b": ["other"]})\n'
        ),
        "project/tools/a.py": "def helper():\n    return 1\n",
        "project/tools/b.py": "def other():\n    return 2\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sources, "REPOSITORY", tmp_path)
    return tmp_path


def digest_of(tree: Path) -> str:
    for function in (sources.code_digest, sources._code, sources._syntax_tree, sources._offered_by):
        function.cache_clear()
    return sources.code_digest(("project.step",))


def edit(tree: Path, name: str, old: str, new: str) -> None:
    path = tree / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_code_that_is_reached_counts(tree):
    before = digest_of(tree)
    edit(tree, "project/tools/a.py", "return 1", "return 3")
    assert digest_of(tree) != before


def test_code_that_is_not_reached_does_not_count(tree):
    before = digest_of(tree)
    edit(tree, "project/tools/b.py", "return 2", "return 3")
    assert digest_of(tree) == before


def test_docstrings_comments_and_formatting_do_not_count(tree):
    before = digest_of(tree)
    edit(tree, "project/step.py", '"""A step."""', '"""Other words."""\n# a comment')
    edit(tree, "project/step.py", "    return helper()", "\n    return (helper())")
    assert digest_of(tree) == before


def test_a_new_docstring_does_not_count(tree):
    before = digest_of(tree)
    edit(tree, "project/tools/a.py", "def helper():\n", 'def helper():\n    """New words."""\n')
    assert digest_of(tree) == before


def test_the_digest_is_the_same_in_every_python(tree):
    # Computed with Python 3.11. A version that parses this otherwise would re-run every training.
    (tree / "project/tools/a.py").write_text("def helper(x):\n    return f\"{x['a']!r:>{x.width}}\" if x else None\n")
    assert digest_of(tree) == "6680f08ecf1e913d"


def test_relative_imports_of_a_users_package_count(tree, monkeypatch):
    package = tree / "elsewhere" / "users_package"
    package.mkdir(parents=True)  # a namespace package: it has no __init__.py
    (package / "model.py").write_text("from .layers import layer\n\ndef build():\n    return layer()\n")
    (package / "layers.py").write_text("from project.tools import other\n\ndef layer():\n    return other()\n")
    monkeypatch.syspath_prepend(str(package.parent))

    def digest_with_factory() -> str:
        digest_of(tree)  # forgets what was read before
        return sources.code_digest(("project.step",), factory="users_package.model:build")

    before = digest_with_factory()
    edit(package, "layers.py", "return other()", "return 2 * other()")
    after = digest_with_factory()
    assert after != before
    edit(tree, "project/tools/b.py", "return 2", "return 3")
    assert digest_with_factory() != after, "what the user's code takes from the project counts too"


def test_kinds_keep_other_families_out():
    starts = ("dcae.autoencoders.loading",)
    own = sources.reached_modules(starts, frozenset({"dc-ae"}), (sources.REPOSITORY,))
    assert "dcae.autoencoders.dc_ae" in own
    assert "dcae.autoencoders.from_diffusers" not in own
    assert "dcae.autoencoders.from_diffusers" in sources.reached_modules(
        starts, frozenset({"diffusers"}), (sources.REPOSITORY,)
    )


def test_how_image_files_are_read_matters_to_data_sets_of_files_only():
    def reached(*kinds):
        return sources.reached_modules(("dcae.data.loading",), frozenset(kinds), (sources.REPOSITORY,))

    of_files = {"dcae.data.images", "dcae.data.decoding", "dcae.data.storage.archives", "dcae.data.storage.folders"}
    assert not of_files & reached("scenes")
    assert of_files | {"dcae.data.layouts.imagenet"} <= reached("imagenet")
    assert not {"dcae.data.layouts.imagenet", "dcae.data.scenes.dataset"} & reached("ffhq")
    kinds = {each.model_fields["kind"].annotation.__args__[0] for each in ImageFilesEntry.__subclasses__()}
    assert kinds == set(sources.IMAGE_FILES)


def test_every_module_of_a_kind_exists():
    for module in sources.ONLY_FOR_KIND:
        assert sources._file(module, (sources.REPOSITORY,)), module


def test_configuration_code_does_not_count():
    reached = sources.reached_modules(
        ("dcae.training.autoencoder",), frozenset({"dc-ae", "scenes"}), (sources.REPOSITORY,)
    )
    assert not any(name.startswith("dcae.benchmark") for name in reached)
