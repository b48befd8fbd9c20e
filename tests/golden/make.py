"""Makes golden data directories with the release that is installed: `python tests/golden/make.py RELEASE`.

It writes `tests/golden/RELEASE/{clean,killed}.tar.gz` and `expected.json` beside them; see README.md. A release's files are
made once, when it is released, and never again: what exists is not overwritten.
"""

import json
import signal
import sys
import tarfile
import uuid
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from bench.cluster import Cluster, Node, until  # noqa: E402

KINDS = ("clean", "killed")
PADDING = {"text": "golden " * 16}


class Maker:
    """One node that is given a task in every status this release reaches."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.polls = 0

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.node.call(method, path, body, timeout_s=30)
        assert answer.status in (200, 201, 202), (path, answer.status, answer.raw)
        return answer.body

    def submit(self, task_type: str, **more: object) -> str:
        body = {"task_type": task_type, "task_data": PADDING, "id": str(uuid.uuid4()), **more}
        return str(self.call("POST", "/tasks/distributed", body)["id"])

    def agent(self, name: str) -> int:
        body = {"id": name, "task_types": [name], "resources": {"slots": 4}, "capabilities": {"nlp": 0.5}, "labels": {"a": "b"}}
        return int(self.call("POST", "/agents", body)["agent_epoch"])

    def poll(self, name: str, epoch: int, **more: object) -> list[Any]:
        self.polls += 1
        fields = {"agent_epoch": epoch, "poll_seq": self.polls, "held": [], "results": [], "progress": [], "max": 9, "wait_ms": 0}
        return list(self.call("POST", f"/agents/{name}/poll", {**fields, **more})["assignments"])

    def run(self, name: str, **more: object) -> dict[str, Any]:
        """A task of type `name`, running at the agent of that name."""
        epoch = self.agent(name)
        task = self.submit(name, **more)
        held = until(lambda: self.poll(name, epoch, wait_ms=1000), f"{name} is assigned")
        assert held[0]["task_id"] == task, held
        self.call("POST", f"/tasks/{task}/start", {"agent_id": name, "epoch": held[0]["epoch"]})
        return {"agent_id": name, "epoch": held[0]["epoch"], "task": task}

    def end(self, held: dict[str, Any], how: str, **body: object) -> None:
        self.call("POST", f"/tasks/{held['task']}/{how}", {"agent_id": held["agent_id"], "epoch": held["epoch"], **body})

    def fill(self) -> None:
        done = self.run("done")
        log = [{"text": "half", "level": "info"}]
        self.end(done, "progress", progress=0.5, message="half", checkpoint={"at": 1}, log=log)
        self.end(done, "complete", result={"n": 1})
        self.submit("later", dependencies=[done["task"]])
        failed = self.run("failing")
        skipped = self.submit("never", dependencies=[failed["task"]], on_dependency_failure="skip")
        self.end(failed, "fail", error={"code": "broken", "message": "on purpose", "retryable": False})
        again = self.run("again")
        self.end(again, "fail", error={"code": "try_later", "retryable": True, "retry_after_ms": 86_400_000})
        cancelled = self.submit("unwanted")
        self.call("POST", f"/tasks/{cancelled}/cancel", {})
        self.submit("tomorrow", not_before="2099-01-01T00:00:00Z")
        ready = self.submit("ready", requirements={"capabilities": {"vision": 0.9}}, labels={"region": "eu"}, priority=3)
        self.submit("blocked", dependencies=[ready])
        dag = {"tasks": [{"name": "a", "task_type": "x"}, {"name": "b", "task_type": "x", "dependencies": ["a"]}]}
        self.call("POST", "/tasks/distributed", dag)
        self.park()
        self.call("PUT", "/state/config/a", {"value": {"rate": 1.5}})
        self.call("PUT", "/state/config/b", {"value": [1, 2]})
        self.call("DELETE", "/state/config/b")
        self.node.call("POST", "/tasks/distributed", {"task_type": "once"}, Idempotency_Key="golden")
        cancelling = self.run("stopping")
        self.call("POST", f"/tasks/{cancelling['task']}/cancel", {"grace_ms": 86_400_000})
        self.run("running")
        epoch = self.agent("assigned")
        self.submit("assigned")
        until(lambda: self.statuses().get("assigned"), "a task is assigned")
        assert self.node.call("GET", f"/tasks/distributed/{skipped}").body["status"] == "skipped"
        assert epoch

    def park(self) -> None:
        """An agent that starts over while it runs a task loses its lease: on three of them the task is parked."""
        for number in range(3):
            name = f"poison-{number}"
            body = {"id": name, "task_types": ["poison"]}
            epoch = int(self.call("POST", "/agents", body)["agent_epoch"])
            if number == 0:
                task = self.submit("poison")
            held = until(lambda name=name, epoch=epoch: self.poll(name, epoch, wait_ms=1000), "the poison is assigned")
            self.call("POST", f"/tasks/{task}/start", {"agent_id": name, "epoch": held[0]["epoch"]})
            self.call("POST", "/agents", body)
            self.call("DELETE", f"/agents/{name}")
        until(lambda: self.statuses().get("parked"), "the poison is parked")

    def statuses(self) -> dict[str, int]:
        found = self.call("GET", "/cluster/status")["tasks"]
        return {status: count for status, count in found.items() if count}

    def seen(self) -> dict[str, Any]:
        """What every later release must answer."""
        items = self.call("GET", "/tasks/distributed?limit=1000&consistency=local")["items"]
        tasks = {item["id"]: self.call("GET", f"/tasks/distributed/{item['id']}?include=events") for item in items}
        agents = self.call("GET", "/agents?limit=1000")["items"]
        status = self.call("GET", "/cluster/status")
        return {
            "tasks": tasks,
            "agents": {agent["agent_id"]: agent["agent_epoch"] for agent in agents},
            "statuses": self.statuses(),
            "revision": status["revision"],
            "state_hash": status["state_hash"]["hash"],
            "keys": {"config/a": self.call("GET", "/state/config/a")},
        }


def make(kind: str, folder: Path) -> dict[str, Any]:
    with Cluster(1) as cluster:
        node = cluster.leader()
        maker = Maker(node)
        maker.fill()
        seen = maker.seen()
        node.kill(signal.SIGTERM if kind == "clean" else signal.SIGKILL)
        directory = cluster.directory / node.name
        with tarfile.open(folder / f"{kind}.tar.gz", "w:gz", compresslevel=9) as tar:
            for path in sorted(directory.rglob("*")):
                # RocksDB's own log tells where and when it ran, and is needed by nobody.
                if path.is_file() and not path.name.startswith("LOG") and path.name != "LOCK":
                    info = tarfile.TarInfo(f"{node.name}/{path.relative_to(directory)}")
                    info.size = path.stat().st_size
                    with path.open("rb") as file:
                        tar.addfile(info, file)
    return seen


def main() -> None:
    folder = HERE / sys.argv[1]
    if (folder / "expected.json").exists():
        sys.exit(f"{folder} was made before: golden files are never written again")
    folder.mkdir(parents=True, exist_ok=True)
    expected = {kind: make(kind, folder) for kind in KINDS}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
