"""Every link from one document to another, to a file or to a heading leads somewhere."""

import re

import pytest
from documents import DOCUMENTS, ROOT, anchors, prose


def broken(text: str, folder) -> list[str]:
    """The targets of relative links that are not there."""
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):  # https://, mailto:
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else None
        if (file and not file.exists()) or (anchor and anchor not in anchors(file.read_text() if file else text)):
            missing.append(target)
    return missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    assert not broken(document.read_text(), document.parent)


def test_every_document_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for document in DOCUMENTS[1:]:
        assert f"](docs/{document.name})" in readme, document.name


def test_the_eyes_of_these_tests_are_open(tmp_path):
    (tmp_path / "there.md").write_text("# One, two & `three`\n# Twice\n# Twice\n")
    fine = "[a](there.md) [b](there.md#one-two--three) [c](#own) [d](there.md#twice-1) [e](https://nowhere)\n# Own\n"
    assert not broken(fine, tmp_path)
    wrong = "[a](gone.md) [b](there.md#four) [c](#foreign) [d](there.md#twice-2)\n# Own\n"
    assert broken(wrong, tmp_path) == ["gone.md", "there.md#four", "#foreign", "there.md#twice-2"]
