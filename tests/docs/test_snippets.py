"""The Python in the README and in docs/ runs, against a real node in this process.

The blocks of a page run in order and share their names, as a reader would type them. Given are `node`, a single
durable node in an empty directory, and `client`, connected to it, anew for each block. Addresses in `jkcs://` URLs, and
the default one anywhere, become the node's. A block that awaits nothing at its top level runs in a thread, so that it
may call `asyncio.run`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from types import CodeType

import pytest

from jkcs_client import connect
from jkcs_server import Node
from tests.docs.pages import Block, Page, pages

SECONDS_MAX = 30
DEFAULT_ADDRESS = "127.0.0.1:2181"

_PAGES = [page for page in pages() if any(block.language == "python" for block in page.blocks)]


def _compile(page: Page, block: Block, text: str) -> CodeType:
    """Code that may await at its top level, and whose tracebacks name the page and its line."""
    tree = ast.parse(text)
    ast.increment_lineno(tree, block.line - 1)
    code: CodeType = compile(tree, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_python_block_is_python(page: Page) -> None:
    """Also those that cannot be run here."""
    for block in page.blocks:
        if block.language == "python":
            _compile(page, block, block.text)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
@pytest.mark.asyncio
async def test_the_python_on_a_page_runs(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that a reader copies must do what the page says; its own asserts are checked on the way."""
    monkeypatch.chdir(tmp_path)
    async with asyncio.timeout(SECONDS_MAX), Node.single(tmp_path / "page") as node:
        assert node.client_address is not None
        host, port = node.client_address
        here = f"jkcs://{host}:{port}"
        async with connect(here) as client:
            names: dict[str, object] = {"__name__": "page"}
            for block in page.blocks:
                if block.language == "python" and block.not_run is None:
                    text = re.sub(r"jkcs://[\w.,:-]+", here, block.text).replace(DEFAULT_ADDRESS, f"{host}:{port}")
                    names |= {"node": node, "client": client}
                    code = _compile(page, block, text)
                    if code.co_flags & inspect.CO_COROUTINE:
                        await eval(code, names)
                    else:
                        await asyncio.to_thread(exec, code, names)
