"""The calls that a job's supervisor makes, answered by an api that can be away, unwilling or late to know."""

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class StandInJobs:
    """`status` is the answer to everything, 0 hangs up; `not_seen` answers that many registrations with 429."""

    url: str = ""
    status: int = 200
    not_seen: int = 0
    refusal: str = ""
    keep: bool = True
    stop: bool = False
    full: bool = False
    registered: list[dict] = field(default_factory=list)
    said: list[dict] = field(default_factory=list)
    output: dict[tuple[str, int], list[dict]] = field(default_factory=dict)

    def text(self, run_id: str = "job_1", restarts: int = 0, stream: str = "out") -> str:
        """Return what was shipped of one stream."""
        parts = self.output.get((run_id, restarts), [])
        return b"".join(b64decode(p["data"]) for p in parts if p["stream"] == stream).decode()

    def phases(self) -> list[str]:
        phases = [word["phase"] for word in self.said]
        return [now for before, now in zip(["", *phases], phases, strict=False) if now != before]

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        if path == "/api/v1/job-runs":
            if self.not_seen > 0:
                self.not_seen -= 1
                return 429, {}
            self.registered.append(body)
            return 201, {"refusal": self.refusal}
        run_id = path.split("/")[4]
        if path.endswith("/lease"):
            self.said.append(body)
            return 200, {"keep": self.keep, "stop": self.stop}
        taken = self.output.setdefault((run_id, body["restarts"]), [])
        if body["first_sequence"] <= len(taken):
            taken += body["parts"][len(taken) - body["first_sequence"] :]
        return 200, {"next_sequence": len(taken), "is_full": self.full}


@contextmanager
def stand_in_jobs(api: StandInJobs) -> Iterator[StandInJobs]:
    """Serve on loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if api.status == 0:
                self.close_connection = True
                return
            status, said = api.answer(self.path, body) if api.status == 200 else (api.status, {})
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
