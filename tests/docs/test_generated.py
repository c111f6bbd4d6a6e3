import subprocess
import sys

import pytest

from docs.generate import HERE, PAGES


@pytest.mark.parametrize("file", PAGES)
def test_a_generated_page_is_up_to_date(file: str) -> None:
    # in a process of its own: other tests may have registered metrics in this one
    code = f"from docs.generate import PAGES; print(PAGES[{file!r}](), end='')"
    page = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert (HERE / file).read_text() == page.stdout, "run: make docs"
