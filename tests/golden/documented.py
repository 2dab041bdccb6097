"""The Python that a page of docs/ tells its readers to run, run: what loads our files is what is written there. It computes nothing itself."""
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def run_python_of(page):
    """Every block of Python of the page, in order."""
    for code in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S):
        exec(compile(code, page, "exec"), {"__name__": page})
