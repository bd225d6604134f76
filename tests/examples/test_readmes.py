"""What the examples' READMEs say one should type, typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.testing.servers import _free_port as free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


def typed(readme: str) -> str:
    """The commands of all console blocks, one after the other; a line that begins with `> ` goes on with the last."""
    blocks = re.findall(r"```console\n(.*?)```", readme, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith(("$ ", "> ")) for line in lines), "a block is commands alone"
    return "\n".join(line[2:] for line in lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the READMEs ask with curl")
@pytest.mark.parametrize(
    ("example", "let_in", "asked"),
    [
        ("llm_gateway", 23, 30),
        ("data_api", 3, 5),
        ("fastapi_app", 10, 11),
        ("litestar_app", 10, 11),
        ("django_app", 10, 11),
        ("quart_app", 10, 11),
    ],
)
def test_a_readme_by_hand(example, let_in, asked, tmp_path):
    port = free_port()
    commands = typed((EXAMPLES / example / "README.md").read_text())
    script = re.sub(r"^EXAMPLE=.*$", f"EXAMPLE={EXAMPLES / example}", commands, flags=re.M).replace("8000", str(port))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE", "UVICORN_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", f"trap 'kill $! 2>/dev/null || true' EXIT\n{script}\nwait $! || true"],
        cwd=tmp_path, env=kept | {"PATH": path, "no_proxy": "localhost"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    codes = re.findall(r"\b(200|429) ", ran.stdout)[-asked:]
    assert codes[:let_in] == ["200"] * let_in, ran.stdout
    assert "429" in codes[let_in:], ran.stdout
    assert '"violated-policies"' in ran.stdout
