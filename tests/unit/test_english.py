"""Words that the project does not use: each had a plainer one, or several meanings."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"owed": "pending",
    r"deaf": "disconnected",
    r"anew": "again",
    r"gives? up|given up": "dropped, lost or removed",
    r"given back|gives back": "returned",
    r"set aside": "skipped, expired or quarantined",
    r"taken up": "resumed",
    r"told|tells": "reported",
    r"hears": "receives",
    r"stands": "is",
    r"(is|are) wanted": "must be",
}
NAMES_THEM = {  # pages whose subject is the old words
    "CHANGELOG.md",
    "docs/adr/0014-one-outcome-and-one-word.md",
    "docs/explanation/glossary.md",
    "docs/how-to/migrate.md",
    "tests/chaos.py",
    "tests/unit/test_english.py",
    "tests/unit/test_words.py",
}
KINDS = {".py", ".pyx", ".pxd", ".pyi", ".md", ".yml", ".yaml", ".toml", ".sh", ".json", ""}


def files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [one for one in listed if Path(one).suffix in KINDS and (ROOT / one).is_file()]


CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SENTENCE_ENDS = re.compile(r"""(?<=[a-z)\]`*"'])[.?!] (?=[A-Z\[`"(*])""")


def test_each_sentence_of_a_document_has_a_line_of_its_own() -> None:
    found = []
    for name in files():
        text = (ROOT / name).read_text()
        if not name.endswith(".md") or text.startswith("<!-- written by"):
            continue
        prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
        found += [
            f"{name}:{number}: {line}"
            for number, line in enumerate(prose.splitlines(), 1)
            if not line.lstrip().startswith(("|", "#")) and SENTENCE_ENDS.search(line)
        ]
    assert not found, "begin a line for each sentence:\n" + "\n".join(found)


@pytest.mark.parametrize(("word", "instead"), INSTEAD.items())
def test_the_plain_word_is_used(word: str, instead: str) -> None:
    pattern = re.compile(rf"\b({word})\b", re.IGNORECASE)
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in files()
        if name not in NAMES_THEM
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"write {instead}:\n" + "\n".join(found)
