"""Export the tiny trained FogGen to int4, then ask it two questions: one it is sure of, one not.

The cloud here is a stand-in on this machine: it looks the stronger model's answers up in a file.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from foggen_runtime import Foggen, Result

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "tiny_foggen"
BUNDLE = ROOT / "demo" / "tiny-foggen-int4"
BIN = Path(sys.executable).parent
STAND_IN = "stand-in-cloud"


def main() -> None:
    """Run the demo; exits with an error if either question does not end where it should."""
    questions = [json.loads(line) for line in (TINY / "heldout.jsonl").open(encoding="utf-8")]
    checkpoint = str(TINY / "checkpoint")
    run("foggen-export", checkpoint, "--quant", "int4", "-o", str(BUNDLE), "--force")
    sure, unsure = find_examples([question["question"] for question in questions])
    with stand_in_cloud({q["question"]: q["cloud_answer"] for q in questions}) as url:
        print(f"\nA stand-in for a cloud model answers at {url}")
        cloud = ("--cloud-url", url, "--cloud-model", STAND_IN)
        results = [ask(question, cloud) for question in (sure, unsure)]
    sources = [result["source"] for result in results]
    if sources != ["local", "cloud"]:
        sys.exit(f"demo: the answers must come from local and cloud, came from {sources}")
    print("\nOne question was answered on this machine, one was handed to the stand-in cloud.")


def find_examples(questions: list[str]) -> tuple[str, str]:
    """Return the first question the bundle is sure of, and the first it would hand off."""
    found: dict[str, str] = {}
    with Foggen.open(BUNDLE) as foggen:
        for question in questions:
            result: Result = foggen.ask(question)
            found.setdefault(result.reason, question)
            if {"confident", "below_tau"} <= found.keys():
                return found["confident"], found["below_tau"]
    sys.exit("demo: the held-out questions are all on one side of tau")


def ask(question: str, cloud: tuple[str, ...]) -> dict[str, object]:
    """Ask with the command line, show what it says, and return the result."""
    print(f"\n{question}")
    run("foggen", "ask", str(BUNDLE), question, *cloud)
    answered = subprocess.run(
        [BIN / "foggen", "ask", BUNDLE, question, *cloud, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, object] = json.loads(answered.stdout)
    return result


def run(command: str, *arguments: str) -> None:
    """Run one of the project's commands, its output going where ours goes."""
    sys.stdout.flush()
    subprocess.run([BIN / command, *arguments], check=True)


@contextmanager
def stand_in_cloud(answers: dict[str, str]) -> Iterator[str]:
    """Serve chat completions on a loopback port; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[body["messages"][-1]["content"]]
            message = {"role": "assistant", "content": f"The answer is {answer}."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            """Keep the demo's output to the demo."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


if __name__ == "__main__":
    main()
