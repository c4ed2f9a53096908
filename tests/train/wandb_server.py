"""A stand-in for W&B's server on this machine: as much of its protocol as wandb 0.31 needs for a run's points.

It keeps what it is sent and can be silent (accept and never answer) or broken (status 500), and have deleted runs.
"""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """`with WandbServer() as server:` serves at `server.url`; `server.history` is what it was sent."""

    def __init__(self) -> None:
        self.mode = "well"  # or silent, broken
        self.only = ""  # if set, runs with other ids count as deleted
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.run: str | None = None
        self.authorizations: set[str] = set()
        self.files: set[str] = set()
        self._ended = threading.Event()
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if state.mode == "silent":
                    state._ended.wait()
                if state.mode != "well":
                    self.reply({}, 500)
                    return
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if state.only and b"UpsertBucket" in body and json.loads(body)["variables"]["name"] != state.only:
                    words = "run me/p/x was previously created and deleted; try a new run name"
                    self.reply({"errors": [{"message": words}], "data": {"upsertBucket": None}}, 409)
                    return
                state.authorizations.add(self.headers.get("authorization", ""))
                self.reply(state.answer(self.path, body))

            do_GET = do_PUT = do_POST  # noqa: N815

            def reply(self, content: dict, code: int = 200) -> None:
                data = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that were killed
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            return {"data": self.graphql(name[1] if name else "", asked.get("variables") or {})}
        if path.endswith("file_stream"):
            for file, content in json.loads(body).get("files", {}).items():
                if file == "wandb-history.jsonl":
                    # As W&B does it: lines have places, and what is sent to a place again stands there once.
                    lines = [json.loads(line) for line in content["content"]]
                    self.history[content["offset"] : content["offset"] + len(lines)] = lines
                if file == "wandb-summary.json":
                    self.summary = json.loads(content["content"][-1])
        return {"limits": {}}

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "RunResumeStatus":
            bucket = None
            if self.run == variables["name"]:
                tail = [json.dumps(row) for row in self.history[-1:]]
                bucket = self.bucket() | {
                    "summaryMetrics": json.dumps(self.summary),
                    "historyLineCount": len(self.history),
                    "logLineCount": 0,
                    "eventsLineCount": 0,
                    "historyTail": json.dumps(tail),
                    "eventsTail": "[]",
                    "tags": [],
                    "notes": "",
                    "wandbConfig": '{"t": 1}',
                }
            return {"model": {"id": "m", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": bucket}}
        if name == "UpsertBucket":
            new = self.run is None
            self.run = self.run or variables["name"]
            return {"upsertBucket": {"bucket": self.bucket(), "inserted": new}}
        if name == "CreateRunFiles":
            self.files |= set(variables["files"])
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "i", "uploadHeaders": [], "files": files}}
        return {}

    def bucket(self) -> dict[str, Any]:
        project = {"id": "p", "name": "audio-autoencoders", "entity": {"id": "e", "name": "me"}}
        return {
            "id": "i",
            "name": self.run,
            "displayName": "a run",
            "description": "",
            "config": "{}",
            "sweepName": None,
            "historyLineCount": len(self.history),
            "project": project,
        }

    def steps(self, name: str) -> list[int]:
        """The steps that have a value of that name."""
        return [row["global_step"] for row in self.history if name in row]
