"""Every command in the README and in the manual is one that parses, and does what its page says.

What a page marks as parsed only needs a cluster, a bucket or a person. Trainings run as they are written but for their
length: QUICK makes a step or two of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pages import EMPTY, ROOT, Block, blocks, name_of, pages

from facekd.cli import GROUPS, build_app, run
from facekd.deploy.targets.table import TARGETS

TRAINING = {"--epochs": "0.3", "--batch": "8", "--held-out": "0.3"}
QUICK = {
    "synth": {"--people": "12", "--photos": "5"},
    "train-teacher": {**TRAINING, "--net": "iresnet18-quarter"},
    "distill": TRAINING,
}
OTHERS = ("cpp", "swift", "kotlin", "js")  # lines for an app, which the tests of examples/ and of the targets try
SMALLER = {"iresnet18": "iresnet18-quarter"}
# They end with 1 where they found something: the networks of a test hardly tell drawn people apart.
MAY_FIND = {"leak", "audit", "enroll", "gallery", "same"}
EVERY = [(page, number, block) for page in pages() for number, block in enumerate(blocks(page))]
RUN = [
    page for page in pages() if any(one.language in ("sh", "python") and not one.only_parsed for one in blocks(page))
]


def quick(tokens: list[str]) -> list[str]:
    """A command's words with the length of a test's."""
    short = QUICK.get(tokens[0], {})
    kept: list[str] = []
    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif token in short:
            skip = True
        elif token not in ("--compile",):
            kept.append(SMALLER.get(token, token))
    return kept + [word for pair in short.items() for word in pair]


def test_the_pages_hold_commands_and_snippets() -> None:
    assert len(RUN) > 15
    assert sum(len(block.commands()) for _, _, block in EVERY) > 60
    assert sum(block.language == "python" for _, _, block in EVERY) > 5


@pytest.mark.parametrize(
    ("page", "number", "block"), EVERY, ids=[f"{name_of(page)}-{number}" for page, number, _ in EVERY]
)
def test_a_block_is_one_that_parses(page: Path, number: int, block: Block) -> None:
    for tokens in block.commands():
        config = [place for place, token in enumerate(tokens) if token in ("--config", "--resume")]
        if config or "COMMAND" in tokens or tokens[0] in ("--help",):
            continue  # what a file says is for the file
        words = tokens[:2] if tokens[0] in GROUPS else tokens[:1]
        build_app(*words).parse_args(tokens, exit_on_error=False, print_error=False)
    if block.language == "yaml":
        assert isinstance(yaml.safe_load(block.text), dict)
    elif block.language == "python":
        compile(block.text, f"{name_of(page)}-{number}", "exec")
    elif block.language not in ("", "sh", *OTHERS):
        pytest.fail(f"a block of {block.language!r}, which no test reads")


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=map(name_of, RUN))
def test_a_page_does_what_it_says(
    page: Path, workplace: Callable[[bool], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    workplace(EMPTY in page.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks(page)):
        if block.only_parsed:
            continue
        if block.language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # suspected mix-ups, for the same reason
                exec(compile(block.text, f"{name_of(page)}-{number}", "exec"), {"__name__": "page"})
        elif block.language == "sh":
            lines = [line for line in block.text.splitlines() if line.strip()]
            assert len(block.commands()) == len(lines), f"a line that is no command of facekd: {block.text}"
            for tokens in block.commands():
                code = run(quick(tokens))
                told = capsys.readouterr()
                allowed = (0, 1) if tokens[0] in MAY_FIND else (0,)
                assert code in allowed, f"facekd {' '.join(tokens)}: {code}\n{told.out}\n{told.err}"


def test_each_sentence_of_the_page_on_errors_is_one_that_facekd_says() -> None:
    page = (ROOT / "docs" / "how-to" / "errors.md").read_text(encoding="utf-8")
    told = [line.split("`")[1] for line in page.split("the sentence says")[1].splitlines() if line.startswith("| `")]
    assert len(told) > 8
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "facekd").rglob("*.py"))
    for sentence in told:
        assert sentence in code, sentence


@pytest.mark.parametrize("page", ["tutorials/phone.md", "how-to/devices.md"])
def test_a_page_has_every_target_with_what_it_takes(page: str) -> None:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `.")}
    assert rows.keys() >= TARGETS.keys()
    heading = next(line for line in lines if line.startswith("| file "))
    for ending, target in TARGETS.items():
        row = rows[ending]
        assert f"[{target.extra}]" in row
        assert target.name.split()[0] in row
        fed = target.fed(112).removeprefix("takes ").split(" as ")[-1]
        shape = fed.removeprefix("float32")
        assert shape in row.replace("×", "x") or (target.layout == "NCHW" and "three planes" in row), (ending, fed)
        if "precisions" in heading:
            cells = row.split("|")[4]
            assert all((one in cells) == (one in target.precisions) for one in ("fp32", "fp16", "int8")), ending
        else:  # a size, or a dash where there is no such file
            sizes = [cell.strip() for cell in row.split("|")[4:7]]
            assert [size != "–" for size in sizes] == [one in target.precisions for one in ("fp32", "fp16", "int8")]
