# SPDX-License-Identifier: Apache-2.0
"""The documents are true: snippets run, every setting and every error is described."""

import re
from pathlib import Path

import msgspec
import pytest

from consilium import errors
from consilium.federation.arms import ARMS
from consilium.federation.project import Project
from consilium.learning.models.registry import NAMES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DP = (ROOT / "docs/dp.md").read_text()
PROJECT_FILE = (ROOT / "docs/project-file.md").read_text()
KEYS = [
    (section.name, key.name)
    for section in msgspec.structs.fields(Project)
    for kind in [section.type, *getattr(section.type, "__args__", ())]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    for key in msgspec.structs.fields(kind)
]


def test_readme_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)

    exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102 - our own words

    assert (tmp_path / "runs/digits/report.html").exists()


def test_settings_are_found() -> None:
    assert len(KEYS) > 30


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_setting_is_described(section: str, key: str) -> None:
    part = PROJECT_FILE.split(f"## [{section}]")[1].split("\n## ")[0]

    assert f"`{key}`" in part


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_named(name: str) -> None:
    assert f"`{name}`" in PROJECT_FILE


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_described(arm: str) -> None:
    assert f"`{arm}`" in (ROOT / "docs/arms.md").read_text()


def test_every_error_is_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    named = [name for name, value in vars(errors).items() if isinstance(value, type)]

    assert [name for name in named if name not in tree] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_map_names_every_package() -> None:
    packages = [p.name for p in (ROOT / "src/consilium").iterdir() if (p / "__init__.py").exists()]
    house = (ROOT / "docs/map.md").read_text()

    assert [name for name in packages if f"{name}/" not in house] == []


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", DP, flags=re.DOTALL))
def test_snippets_on_private_training_run(snippet: str) -> None:
    exec(compile(snippet, "docs/dp.md", "exec"), {})  # noqa: S102 - our own words


def test_every_test_that_the_secure_sum_names_is_there() -> None:
    page = (ROOT / "docs/why/secure-sum.md").read_text()
    source = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))

    named = set(re.findall(r"`(test_\w+)`", page))

    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in source]
