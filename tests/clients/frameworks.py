"""What Kafka's frameworks do with a broker: shows, each on one broker and on three. With three, the group's
coordinator is killed, too.

streams  Kafka Streams counts words; an instance is killed.
connect  Kafka Connect copies lines from a file into another; a worker is killed.
"""

import json
import re
import urllib.error
import urllib.request
from collections import Counter

from cases import equal

TASKS = 4  # of each half of the word count, and partitions of its topics


def words_of(number):
    return "all", f"seventh-{number % 7}", f"thirtieth-{number % 30}"


def streams(stage):
    """Two instances of two threads count words, by way of a topic of their own, with standbys."""
    counts = f"{stage.topic}-counts"
    for name in (stage.topic, counts):
        stage.create(name, TASKS)
    for name in ("one", "two"):
        stage.start(name, stage.main(name, "count", stage.topic, counts, stage.group, stage.folder / name))
    reader = stage.start("reader", stage.main("reader", "read", counts))

    def tasks():
        told = [stage.programs[name].printed[-1:] or ["0 0"] for name in ("one", "two") if name in stage.programs]
        return [tuple(map(int, line.split())) for [line] in told]

    def found():
        return {word: int(count) for word, count in (line.split() for line in list(reader.printed))}

    def goes_on(what):
        number = load.number + 500
        stage.until(lambda: found().get("all", 0) > number, what)

    stage.until(lambda: tasks() == [(TASKS, TASKS // 2)] * 2, "both instances have their share of the tasks")
    stage.check_led("consumer")
    load = stage.load(stage.main("load", "produce", stage.topic), lambda number: " ".join(words_of(number)))
    goes_on("words are counted")
    stage.lose_coordinator()
    goes_on("words are counted on")
    stage.kill("one")
    stage.until(lambda: tasks() == [(2 * TASKS, 0)], "the other instance has all tasks")
    goes_on("words are counted by the other instance")
    end = load.stop()
    wanted = Counter(word for number in range(end) for word in words_of(number))
    stage.until(lambda: found().get("all", 0) >= end and not wanted - Counter(found()), "all words are counted")
    stage.finish("two")
    twice = (Counter(found()) - wanted).total()
    return f"{wanted.total()} words, all counted, {twice} twice"


WORKER = """
bootstrap.servers={bootstrap}
group.id={group}
listeners=http://127.0.0.1:0
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
config.storage.topic={group}-configs
offset.storage.topic={group}-offsets
status.storage.topic={group}-status
config.storage.replication.factor={replicas}
offset.storage.replication.factor={replicas}
status.storage.replication.factor={replicas}
offset.flush.interval.ms=500
plugin.discovery=service_load
# One is killed, and nobody is to wait for it longer than must be: the shortest session that brokers take.
session.timeout.ms=6000
heartbeat.interval.ms=1500
scheduled.rebalance.max.delay.ms=1000
# Kafka's Admin waits for so long for a broker that it has taken for the leader, and that is gone.
request.timeout.ms=3000
default.api.timeout.ms=5000
"""


class Workers:
    """Kafka Connect's, by their addresses, which are known by their logs."""

    def __init__(self, stage, names):
        self.stage, self.addresses = stage, {}
        for name in names:
            file = stage.folder / f"{name}.properties"
            replicas = len(stage.fleet.addresses)
            file.write_text(WORKER.format(bootstrap=stage.fleet.bootstrap, group=stage.group, replicas=replicas))
            rest = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.connect.runtime.rest.RestServer=info"
            stage.start(name, stage.java(name, rest, "org.apache.kafka.connect.cli.ConnectDistributed", file))
        for name in names:
            stage.until(lambda: self.told(name), f"{name} has an address")
            self.addresses[name] = self.told(name)[1]

    def told(self, name):
        log = self.stage.folder / f"{name}.log"
        return log.exists() and re.search(r"REST server listening at http://([\d.:]+)", log.read_text())

    def ask(self, name, method, path, body=None):
        """The answer; None from a worker that is not ready, or has gone, or whose group is settling."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.addresses[name]}{path}", data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (404, 409, 500, 503):
                return None
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:200]}") from error
        except OSError:
            return None

    def connector(self, name, connector, config):
        self.stage.until(lambda: self.ask(name, "PUT", f"/connectors/{connector}/config", config),
                         f"{connector} is made")

    def running(self, connector):
        """The addresses on which the connector's tasks run."""
        name = next(iter(self.addresses))
        status = self.ask(name, "GET", f"/connectors/{connector}/status") or {"tasks": []}
        return [task["worker_id"] for task in status["tasks"] if task["state"] == "RUNNING"]

    def kill_that_of(self, connector):
        """Kills the worker on which the connector's one task runs."""
        self.stage.until(lambda: self.running(connector), f"{connector} runs")
        [killed] = self.running(connector)
        [name] = [name for name, address in self.addresses.items() if address == killed]
        self.stage.kill(name)
        del self.addresses[name]


def connect(stage):
    """Two workers copy lines from a file into a topic and, with two tasks, from there into another."""
    lines, copies = stage.folder / "lines", stage.folder / "copies"
    for file in (lines, copies):
        file.touch()
    stage.create(stage.topic, TASKS)
    workers = Workers(stage, ("one", "two"))
    kind = "connector.class"
    workers.connector("one", "source", {kind: "FileStreamSource", "file": str(lines), "topic": stage.topic})
    sink = {kind: "FileStreamSink", "file": str(copies), "topics": stage.topic, "tasks.max": "2"}
    workers.connector("two", "sink", sink)

    def found():
        """With a count of each line; the last may be half."""
        return Counter(copies.read_text().split("\n")[:-1])

    def goes_on(what):
        number = load.number + 500
        stage.until(lambda: f"{number}:{number}" in found(), what)

    def all_run_on(addresses):
        source, sinks = workers.running("source"), workers.running("sink")
        return (len(source), len(sinks)) == (1, 2) and {*source, *sinks} == {*addresses}

    stage.until(lambda: all_run_on(workers.addresses.values()), "both workers have tasks")
    stage.check_led("connect")
    load = stage.load(["tee", "--append", str(lines)])
    goes_on("lines are copied")
    stage.lose_coordinator()
    goes_on("lines are copied on")
    workers.kill_that_of("source")
    stage.until(lambda: all_run_on(workers.addresses.values()), "the other worker has all tasks")
    goes_on("lines are copied by the other worker")
    end = load.stop()
    wanted = {f"{number}:{number}" for number in range(end)}
    stage.until(lambda: wanted <= set(found()), "all lines are copied")
    [left] = workers.addresses
    equal(stage.programs[left].stop(), 143, "exit code of the worker at SIGTERM")
    equal(sorted(set(found()) - wanted), [], "lines that nobody has written")
    return f"{end} lines, all copied, {found().total() - end} twice"


SHOWS = {"streams": streams, "connect": connect}
