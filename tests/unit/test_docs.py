"""Pages that can be false are compared with what they describe."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from fairlead import __version__, errors
from fairlead.cli.reference import cli_page, settings_page
from fairlead.errors import FairleadError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def map_test() -> ModuleType:
    spec = importlib.util.spec_from_file_location("the_map", ROOT / "tests" / "test_map.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "page"), [("settings", settings_page), ("cli", cli_page)])
def test_reference_pages_say_what_the_code_says(name: str, page: object) -> None:
    assert callable(page)
    assert (DOCS / "reference" / f"{name}.md").read_text() == page(), "run scripts/docs"


def test_the_map_has_the_import_table() -> None:
    rows = re.findall(r"^\| `([a-z/]+)` \|(.*)\|$", (DOCS / "map.md").read_text(), re.M)
    told = {name: set(re.findall(r"`([^`]+)`", cells)) for name, cells in rows}
    assert told == map_test().MAY_IMPORT


def test_the_map_leads_to_files_that_are_there() -> None:
    named = re.findall(r"`((?:[a-z]+/)*[a-z_]+\.py)`", (DOCS / "map.md").read_text())
    places = (ROOT, ROOT / "src" / "fairlead")
    assert len(named) > 60 and not [name for name in named if not any((place / name).is_file() for place in places)]


def test_words_are_in_order_and_told_once() -> None:
    words = [word.lower() for word in re.findall(r"^\| ([A-Za-z ]+) \| [A-Z]", (DOCS / "words.md").read_text(), re.M)][
        1:
    ]
    assert words == sorted(set(words))
    for needed in ("network", "endpoint", "sandbox", "plan", "wanted", "driver", "binding", "lease"):
        assert needed in words


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_scripts_the_pages_name_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for name in re.findall(r"\bscripts/([a-z]+(?:-[a-z]+)*)", page.read_text()):
            assert (ROOT / "scripts" / name).exists(), f"{page.name}: scripts/{name}"


def test_decisions_tell_what_was_turned_down() -> None:
    for page in (DOCS / "why").glob("*.md"):
        text = page.read_text()
        assert text.startswith("# "), page.name
        assert re.search(r"turned down|rejected|instead", text, re.I), f"{page.name}: what was turned down?"


def test_nine_errors() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FairleadError)]
    assert len(kinds) - 1 == 8, "errors.py and docs/map.md count nine words, the base included"
    assert all(kind.__doc__ for kind in kinds)


def test_the_changelog_has_room_for_news() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {__version__}" in text
