"""Tests that README and `docs/` name files, pages, tests and figures that exist."""

import re
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, PROJECT, name_of

from shared.queue.layout_version import UNVERSIONED, LayoutMismatch
from shared.queue.redis_keys import Keys


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, *PROJECT.glob("*.md"), *(PROJECT / "benchmarks").glob("*.md")],
    ids=name_of,
)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


@pytest.mark.parametrize("document", [*DOCUMENTS, PROJECT / "SECURITY.md"], ids=name_of)
def test_every_file_that_is_named_exists(document: Path) -> None:
    folders = "api|benchmarks|cli|client|observability|shared|tests|worker"
    names = re.findall(rf"`((?:{folders})/[\w./-]*)`", document.read_text())

    assert [name for name in names if not (PROJECT / name).exists()] == []


def _anchors(document: Path) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = (PROJECT / "docs" / "README.md").read_text()
    pages = [page for page in (PROJECT / "docs").rglob("*.md") if page.name != "README.md"]

    assert [page for page in pages if f"({page.relative_to(PROJECT / 'docs')})" not in index] == []


def test_the_comparison_has_the_measured_figures() -> None:
    """Compares the page's table with RESULTS.md, which `python -m benchmarks` writes."""
    measured = _table(PROJECT / "benchmarks" / "RESULTS.md")
    shown = _table(PROJECT / "docs" / "comparison.md")
    compared = {
        label: figures
        for label, figures in shown.items()
        if any(name.startswith(label) for name in measured)
    }

    assert len(compared) == 7
    for label, figures in compared.items():
        [medians] = [row for name, row in measured.items() if name.startswith(label)]
        assert figures == pytest.approx(medians, rel=0.02), label


@pytest.mark.parametrize(("document", "count"), [("README.md", 4), ("docs/comparison.md", 11)])
def test_what_is_shown_of_faults_was_measured(document: str, count: int) -> None:
    """Compares the rows with PROVIDERS.md, which `python -m benchmarks providers` writes."""
    measured: dict[str, list[str]] = {}
    cells: list[str] = []  # of the situation, which only the first of its rows names
    for situation, _, time, *_, lost in _rows(PROJECT / "benchmarks" / "PROVIDERS.md"):
        cells = measured.setdefault(situation, []) if situation else cells
        cells.append(f"{time}, {'none' if lost == '0' else lost} lost")
    shown = [row for row in _rows(PROJECT / document) if "(ideal:" in row[0]]

    assert len(shown) == count
    for situation, *cells in shown:
        assert cells == measured[situation]


def _rows(document: Path) -> list[list[str]]:
    """Returns the cells of each row of a document's tables."""
    rows = re.findall(r"^\| (.*) \|$", document.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def _table(document: Path) -> dict[str, list[float]]:
    """Returns the first number in each of three columns, by the label of the row."""
    cell = r"(\d[\d,.]*)[^|]*\|"
    rows = re.findall(rf"^\| ([^|]+?) \| {cell} {cell} {cell}", document.read_text(), re.MULTILINE)
    return {label: [float(value.replace(",", "")) for value in values] for label, *values in rows}


def test_every_promise_names_tests_that_exist() -> None:
    text = (PROJECT / "docs" / "promises.md").read_text()
    promises = re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[1:]

    assert len(promises) == 9
    assert all(re.search(r"\(\.\./tests/[\w/]+\.py\)", promise) for promise in promises)


def test_the_refusal_of_another_layout_is_the_one_shown() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    refusal = LayoutMismatch(UNVERSIONED, Keys().prefix)

    assert str(refusal) in " ".join(text.split())
