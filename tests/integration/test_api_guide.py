"""docs/api.md is run as it stands: every command in a shell, every output compared with what it says.

Values that differ from run to run (ids, tokens, revisions, times) are samples in the guide. Each sample stands for one
value of this run: what one command has answered is what the next ones use, and what later outputs must show.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"
SERVE = "session-ops serve --embedded"
ADDRESS = "127.0.0.1:8080"
END = "-- end of the answer --"

# The longer first: each kind of sample, and the pattern of what it stands for
SAMPLES = re.compile(
    "|".join(
        rf"(?<![\w-]){pattern}(?![\w-])"
        for pattern in (
            r"[0-9a-f]{64}",  # a digest
            r"[A-Za-z0-9_-]{32}",  # a token
            r"[A-Za-z0-9_-]{22}",  # an id
            r"[0-9a-f]{16}",  # a revision
            r"[0-9a-f]{12}-[0-9a-f]+",  # a request's id
            r"1\d{12}",  # a time
            r"\d+-[0-9a-f]{8}",  # a prefix
        )
    )
)
PARTS = re.compile(rf"(?P<sample>{SAMPLES.pattern})|(?P<left_out>\.\.\.)|(?P<space>\s+)")


def commands_of(guide: str) -> list[tuple[str, str]]:
    """Each command after a `$ ` in a block, and the output below it."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```\n(.*?)^```", guide, re.DOTALL | re.MULTILINE):
        if block.startswith("$ "):
            found += [(command, output) for command, output in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block)]
    return found


class Reader:
    """Compares outputs with the guide, and learns what its samples stand for."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def command(self, text: str) -> str:
        """The command, with the values of this run."""
        for sample, value in self.known.items():
            text = text.replace(sample, value)
        return text

    def compare(self, expected: str, answer: str) -> None:
        """Fail unless the answer is what the guide says; headers that it leaves out may be there."""
        if expected.startswith("HTTP/"):
            head, _, expected = expected.partition("\n\n")
            answered_head, _, answer = answer.replace("\r\n", "\n").partition("\n\n")
            there = answered_head.splitlines()
            for line in head.strip().splitlines():
                assert any(self._agree(line, each) for each in there), f"{line!r} is not in {there}"
        assert self._agree(expected.strip(), answer.strip()), f"{answer!r} is not {expected!r}"

    def _agree(self, expected: str, answer: str) -> bool:
        pattern, samples, at = "", [], 0
        for part in PARTS.finditer(self.command(expected)):
            pattern += re.escape(self.command(expected)[at : part.start()])
            at = part.end()
            sample = part["sample"]
            if sample is None:
                pattern += ".*" if part["left_out"] else r"\s*"
            elif sample in self.known.values():
                pattern += re.escape(sample)
            elif sample in samples:
                pattern += rf"(?P=s{samples.index(sample)})"
            else:
                kind = next(kind for kind in SAMPLES.pattern.split("|") if re.fullmatch(kind, sample))
                pattern += rf"(?P<s{len(samples)}>{kind})"
                samples.append(sample)
        pattern += re.escape(self.command(expected)[at:])
        match = re.fullmatch(pattern, answer, re.DOTALL)
        if match is None:
            return False
        self.known |= {sample: match[f"s{number}"] for number, sample in enumerate(samples)}
        return True


class Shell:
    """The reader's shell: one for all commands."""

    def __init__(self) -> None:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
        }
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            bufsize=1,
        )
        self.run("shopt -s expand_aliases")

    def run(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # An alias holds from the next line on, as at a terminal
        self._process.stdin.write(f"{command}\necho; echo '{END}'\n")
        lines: list[str] = []
        for line in self._process.stdout:
            if line.strip() == END:
                return "".join(lines).rstrip("\n")
            lines.append(line)
        raise AssertionError("the shell has ended: " + "".join(lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Embedded:
    """`session-ops serve --embedded` beside the shell, and what it has said."""

    def __init__(self, directory: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        environment = {"PATH": os.environ["PATH"], "REDIS_DATA_DIR": str(directory), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "session_ops.cli", *SERVE.split()[1:]],
            env={**environment, "SESSION_LISTEN": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.said = self.process.stdout.readline() + self.process.stdout.readline()
        while "worker_started" not in (line := self.process.stderr.readline()):
            assert line, "it has ended"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    service = Embedded(tmp_path)
    yield service
    service.process.terminate()
    service.process.communicate(timeout=15)


async def test_every_command_of_the_guide_answers_as_it_says(embedded: Embedded) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    reader = Reader({ADDRESS: embedded.address})
    commands = commands_of(guide)
    assert commands[0][0] == SERVE
    reader.compare(commands[0][1], embedded.said)
    with Shell() as shell:
        for command, output in commands[1:]:
            answer = shell.run(reader.command(command))
            try:
                reader.compare(output, answer)
            except AssertionError as error:
                raise AssertionError(f"$ {command}\n{error}") from None
    assert len(commands) > 15

    [snippet] = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    program = "async def example(token):\n" + textwrap.indent(
        snippet.replace("sessions:8080", embedded.address), "    "
    )
    names: dict[str, Any] = {}
    exec(compile(program, str(GUIDE), "exec"), names)  # noqa: S102 - our own guide
    token = re.match(r"token: (\S+)", embedded.said)
    assert token is not None
    await names["example"](token[1])


@pytest.mark.parametrize(
    ("expected", "answer", "agrees"),
    [
        ('{"a":1,\n "b":2}', '{"a":1,"b":2}', True),
        ('{"a":1, ...}', '{"a":1,"b":{"c":3}}', True),
        ('{"a":1}', '{"a":2}', False),
        ('"HwHWKwTMKxDUChumGiYYtM"', '"ePD0eAQr47yfUKPZL5DwAA"', True),
        (
            '"HwHWKwTMKxDUChumGiYYtM" "HwHWKwTMKxDUChumGiYYtM"',
            '"ePD0eAQr47yfUKPZL5DwAA" "fPD0eAQr47yfUKPZL5DwAA"',
            False,
        ),
        ('"HwHWKwTMKxDUChumGiYYtM"', '"short"', False),
        ("HTTP/1.1 204 No Content\nallow: GET", "HTTP/1.1 204 No Content\r\nx: y\r\nallow: GET\r\n\r\n", True),
        ("HTTP/1.1 204 No Content\nallow: GET", "HTTP/1.1 204 No Content\r\n\r\n", False),
    ],
)
def test_the_reader_tells_what_agrees_from_what_does_not(expected: str, answer: str, *, agrees: bool) -> None:
    if agrees:
        Reader({}).compare(expected, answer)
    else:
        with pytest.raises(AssertionError):
            Reader({}).compare(expected, answer)
