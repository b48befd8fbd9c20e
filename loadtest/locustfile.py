"""What clients and agents do all day, as Locust users: submit one and many, read status, poll and complete.

Every answer that is not what the API promises counts as a failure; a 429 or 503 counts as pushed back and is tried again later.
"""

import itertools
import os
import random
import uuid

from locust import HttpUser, constant_throughput, task
from locust.exception import StopUser

NODES = os.environ.get("TASKQUORUM_SERVERS", "http://127.0.0.1:8080").split(",")
PUSHED_BACK = (429, 503)
_numbers = itertools.count()


class OnSomeNode(HttpUser):
    """A user that talks to one node, the next user to the next."""

    abstract = True

    def __init__(self, environment) -> None:
        self.host = NODES[next(_numbers) % len(NODES)]
        super().__init__(environment)

    def ask(self, method: str, path: str, name: str, expected: tuple[int, ...], body: object = None):
        """The parsed body, or None when the server pushed back; anything unexpected is a failure."""
        with self.client.request(method, f"/api/v1{path}", name=name, json=body, catch_response=True) as answer:
            if answer.status_code in expected:
                answer.success()
                return answer.json()
            if answer.status_code in PUSHED_BACK and "Retry-After" in answer.headers:
                answer.success()
                return None
            answer.failure(f"{answer.status_code}: {answer.text[:200]}")
            return None


class Submitter(OnSomeNode):
    """Submits single tasks and arrays, waits for some and reads what it submitted."""

    weight = 4
    wait_time = constant_throughput(20)

    def on_start(self) -> None:
        self.mine: list[str] = []

    @task(10)
    def submit_one(self) -> None:
        done = self.ask(
            "POST", "/tasks/distributed", "submit one", (202,), {"task_type": "load", "priority": random.randint(-2, 2)}
        )
        if done:
            self.mine = [*self.mine[-99:], done["id"]]

    @task(1)
    def submit_many(self) -> None:
        body = [{"task_type": "load", "task_data": number} for number in range(50)]
        done = self.ask("POST", "/tasks/distributed", "submit 50", (202,), body)
        if done and any("error" in item for item in done["items"]):
            self.environment.events.request.fire(
                request_type="POST",
                name="submit 50",
                response_time=0,
                response_length=0,
                exception=ValueError("an item failed"),
                context={},
            )

    @task(5)
    def read_mine(self) -> None:
        if self.mine:
            self.ask("GET", f"/tasks/distributed/{random.choice(self.mine)}", "read a task", (200,))

    @task(1)
    def submit_twice(self) -> None:
        """The same id and body again is the same task."""
        body = {"id": str(uuid.uuid4()), "task_type": "load"}
        for _ in range(2):
            self.ask("POST", "/tasks/distributed", "submit twice", (202,), body)


class Watcher(OnSomeNode):
    """An operator's page: status, nodes, statistics, the newest tasks."""

    weight = 1
    wait_time = constant_throughput(2)

    @task
    def status(self) -> None:
        self.ask("GET", "/cluster/status", "cluster status", (200,))

    @task
    def nodes(self) -> None:
        self.ask("GET", "/cluster/nodes", "cluster nodes", (200,))

    @task
    def stats(self) -> None:
        self.ask("GET", "/coordination/stats", "stats", (200,))

    @task
    def newest(self) -> None:
        self.ask("GET", "/tasks/distributed?limit=20", "list tasks", (200,))


class Worker(OnSomeNode):
    """An agent that completes what it gets: most results go with the next poll, some by a call of their own."""

    weight = 3
    wait_time = constant_throughput(50)

    def on_start(self) -> None:
        self.agent_id = f"load-{uuid.uuid4()}"
        body = {"id": self.agent_id, "resources": {"slots": 64}, "task_types": ["load"]}
        answer = self.ask("POST", "/agents", "register", (200, 201), body)
        if not answer:
            raise StopUser
        self.agent_epoch = answer["agent_epoch"]
        self.results: list[dict] = []
        self.sequence = 0

    def on_stop(self) -> None:
        self.ask("DELETE", f"/agents/{self.agent_id}", "leave", (200,))

    @task
    def poll(self) -> None:
        self.sequence += 1
        body = {"agent_epoch": self.agent_epoch, "poll_seq": self.sequence, "held": [], "results": self.results, "max": 32}
        answer = self.ask("POST", f"/agents/{self.agent_id}/poll", "poll", (200,), {**body, "wait_ms": 500})
        if not answer:
            return
        self.results = []
        for number, item in enumerate(answer["assignments"]):
            done = {"epoch": item["epoch"], "result": {"ok": True}}
            if number == 0:
                path = f"/tasks/{item['task_id']}/complete"
                self.ask("POST", path, "complete one", (200,), {"agent_id": self.agent_id, **done})
            else:
                self.results.append({"task_id": item["task_id"], "status": "completed", **done})
