"""Every link inside the documentation leads somewhere, and every page can be reached."""

from __future__ import annotations

from tests.docs.pages import ROOT, Page, anchor, pages


def _broken(page: Page, known: dict[str, Page]) -> list[str]:
    complaints = []
    for link in page.links:
        target, _, fragment = link.partition("#")
        if ":" in target:
            continue  # the world's pages are not ours to check
        path = (page.path.parent / target).resolve() if target else page.path
        if target and not path.exists():
            complaints.append(f"{page.name}: {link} does not exist")
        elif fragment and path.is_relative_to(ROOT):
            there = known.get(path.relative_to(ROOT).as_posix())
            if there is not None and fragment not in there.anchors:
                complaints.append(f"{page.name}: {link} names no heading")
    return complaints


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    """A dead link in the documentation is a promise not kept."""
    known = {page.name: page for page in pages()}
    complaints = [complaint for page in known.values() for complaint in _broken(page, known)]
    assert not complaints, complaints


def test_every_page_is_reached_from_the_index() -> None:
    """A page that nothing leads to is read by nobody."""
    known = {page.name: page for page in pages()}
    reached, new = set(), {"README.md"}
    while new:
        name = new.pop()
        reached.add(name)
        for link in known[name].links:
            path = (known[name].path.parent / link.partition("#")[0]).resolve()
            target = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
            if target in known and target not in reached:
                new.add(target)
    assert sorted(set(known) - reached) == []


def test_a_broken_link_is_noticed() -> None:
    """The check itself: a missing file, a missing heading, and a bracket in code that is no link."""
    text = "# A b\n[a](gone.md) [b](#a-b) [c](#no)\n```python\nx[a](b)\n```\n"
    page = Page(ROOT / "docs" / "x.md", text)
    assert _broken(page, {page.name: page}) == [
        "docs/x.md: gone.md does not exist",
        "docs/x.md: #no names no heading",
    ]


def test_anchors_are_made_as_github_makes_them() -> None:
    assert anchor("`jkcs serve`: run, and stop") == "jkcs-serve-run-and-stop"
