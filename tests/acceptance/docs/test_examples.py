"""The examples of the documents do what the documents say, executed as a reader would."""

from pathlib import Path

import pytest

from support.docs import ROOT, blocks, pages
from support.docs_runner import page_runner

pytestmark = pytest.mark.acceptance

_PAGES = [page for page in pages() if any(block.mark.startswith("run") for block in blocks(page))]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_do_what_it_says(page: Path) -> None:
    with page_runner() as runner:
        assert runner.play(page) > 0
