"""A role's variables are described once, and what is generated from them is never stale."""

from __future__ import annotations

import pathlib

import pytest

from .conftest import load

script = load("scripts/role-readme")
SPECS = """
argument_specs:
  main:
    short_description: A role
    options:
      demo_port: {type: int, default: 5, description: The C(port).}
      demo_word: {type: str, required: true, description: A secret.}
"""


@pytest.fixture
def roles(tmp_path: pathlib.Path) -> pathlib.Path:
    for folder in ("meta", "defaults"):
        (tmp_path / "demo" / folder).mkdir(parents=True)
    (tmp_path / "demo/meta/argument_specs.yml").write_text(SPECS)
    (tmp_path / "demo/defaults/main.yml").write_text("demo_port: 5\n")
    return tmp_path


def test_the_readme_is_written_once_and_check_notices_when_it_is_stale(roles: pathlib.Path) -> None:
    assert script.main(["--check", "--roles", str(roles)]) == 1
    assert not (roles / "demo/README.md").exists()
    assert script.main(["--roles", str(roles)]) == 0
    assert "The `port`." in (roles / "demo/README.md").read_text()
    assert script.main(["--check", "--roles", str(roles)]) == 0
    (roles / "demo/README.md").write_text("old")
    assert script.main(["--check", "--roles", str(roles)]) == 1


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ("demo_port: 6\n", "demo_port is 6 in defaults, 5 in argument_specs"),
        ('demo_port: "5"\n', "demo_port is '5' in defaults"),
        ("{}\n", "demo_port is in argument_specs but not in defaults"),
        ("demo_port: 5\ndemo_more: 1\n", "demo_more is in defaults but not in argument_specs"),
        ("demo_port: 5\ndemo_word: x\n", "demo_word is required"),
    ],
)
def test_a_disagreement_is_named(
    roles: pathlib.Path, capsys: pytest.CaptureFixture[str], defaults: str, said: str
) -> None:
    (roles / "demo/defaults/main.yml").write_text(defaults)
    assert script.main(["--check", "--roles", str(roles)]) == 1
    assert said in capsys.readouterr().err
