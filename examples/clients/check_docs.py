"""Runs the code of pages of the docs against a running platform, in its order, as a reader would.

    python check_docs.py README.md docs/onnx.md --slipway target/debug/slipway --data-dir .slipway

Blocks marked `sh`, and `python` blocks that import what they use, run in a temporary folder; one marked `python file=NAME` is
written there. A block that installs packages is skipped: the environment that runs this has them. Indented lines that begin with
`slipway`, `for` or `python examples/` run in the root of the repository, except those with a placeholder for another server.
Calls of models with `curl` have to be answered as the page says, key by key in its order.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = re.compile(
    r"^```(?P<language>python|sh)(?: file=(?P<file>\S+))?\n(?P<block>.*?)^```$"
    r"|^    (?P<line>(?:slipway |python examples/|for )[^\n]*)$"
    r"|^\$ (?P<call>curl [^\n]*localhost:\d+/v\d/models/[^\n]*(?:infer|predict) [^\n]*)\n(?P<answer>[{][^\n]*)$",
    re.MULTILINE | re.DOTALL,
)
PLACEHOLDER = "http://old-mlflow"
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300


def main() -> int:
    arguments = argparse.ArgumentParser(description="Runs the code of pages of the docs.")
    arguments.add_argument("pages", type=Path, nargs="+")
    arguments.add_argument("--slipway", type=Path, required=True, help="the program")
    arguments.add_argument("--data-dir", type=Path, required=True, help="of a running platform")
    options = arguments.parse_args()
    endpoints = json.loads((options.data_dir / "endpoints.json").read_text())
    path = [str(options.slipway.resolve().parent), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = os.environ | {
        "PATH": os.pathsep.join(path),
        "SLIPWAY_HOME": str(options.data_dir.resolve()),
        "MLFLOW_TRACKING_URI": endpoints["registry"],
        "PYTHONWARNINGS": "ignore",
    }
    ran = failed = 0
    for page in options.pages:
        text = here(page.read_text(), endpoints)
        with tempfile.TemporaryDirectory() as folder:
            for code in CODE.finditer(text):
                if code["file"]:
                    Path(folder, code["file"]).write_text(code["block"])
                command = command_of(code)
                if command is None:
                    continue
                ran += 1
                place = f"{page.name}:{text.count(chr(10), 0, code.start()) + 1}"
                folder_of_command = ROOT if code["line"] else folder
                failed += not succeeds(command, folder_of_command, environment, place, code["answer"])
    print(f"{ran - failed} of {ran} commands and blocks ran", flush=True)
    return 1 if failed or not ran else 0


def here(text: str, endpoints: dict[str, str]) -> str:
    """The page with the addresses of this platform's serving in place of the standard ports."""
    for port, name in ((8000, "serving_http"), (8001, "serving_grpc")):
        address = "localhost:" + endpoints[name].rsplit(":", 1)[1]
        text = text.replace(f"localhost:{port}", address).replace(f"127.0.0.1:{port}", address)
    return text


def succeeds(command: list[str], folder: str | Path, environment: dict[str, str], place: str, answer: str | None) -> bool:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if answer is not None and done.stdout.strip() != answer.strip():
        print(f"FAIL {place}: the page says {answer.strip()}, the answer is {done.stdout.strip()}", flush=True)
        return False
    if done.returncode == 0:
        print(f"ok {place}", flush=True)
        return True
    last = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
    print(done.stdout + done.stderr)
    print(f"FAIL {place}: exit code {done.returncode}: {last[-1]}", flush=True)
    return False


def command_of(code: re.Match) -> list[str] | None:
    """What runs it; none for what is an excerpt, installs packages, or needs another server."""
    if code["call"]:
        return ["bash", "-e", "-c", code["call"].replace("curl", "curl -s", 1)]
    if code["line"]:
        return None if PLACEHOLDER in code["line"] else ["bash", "-e", "-o", "pipefail", "-c", code["line"]]
    if code["language"] == "python" and "import " in code["block"] and not code["file"]:
        return [sys.executable, "-c", code["block"]]
    if code["language"] == "sh" and not code["block"].startswith("pip install"):
        return ["bash", "-e", "-o", "pipefail", "-c", code["block"]]
    return None


if __name__ == "__main__":
    sys.exit(main())
