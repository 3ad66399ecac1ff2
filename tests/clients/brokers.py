"""Starts what the clients talk to: mk's release binaries or, to prove a case, Apache Kafka itself.

A fleet is a list of processes that serve one address each; all are on 127.0.0.1, and all are ended
by their ids.
"""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import wire

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


class Fleet:
    """Brokers of one cluster, and what they need; `bootstrap` is the way in."""

    def __init__(self, folder, is_mk):
        self.folder, self.is_mk, self.processes, self.names = Path(folder), is_mk, {}, {}

    @property
    def addresses(self):
        """Of the brokers."""
        return list(self.names)

    @property
    def bootstrap(self):
        return ",".join(self.names)

    def start(self, name, command):
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def told(self, name):
        """The address on which a process of mk says that it is ready."""
        log = self.folder / f"{name}.log"
        return self.until(lambda: re.search(r" ready on ([\d.:]+),", log.read_text(errors="replace")), name)[1]

    def until(self, done, name, seconds=60):
        """Waits for what a process is to do; what done() gives then."""
        end = time.monotonic() + seconds
        while not (found := done()):
            if self.processes[name].poll() is not None:
                raise RuntimeError(f"{name} ended: {self.last_words()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{name} is not ready: {self.last_words()}")
            time.sleep(0.05)
        return found

    def wait(self):
        """Until every broker knows of all of them."""
        for address, name in self.names.items():
            self.until(lambda: self.ready(address), name)

    def ready(self, address):
        try:
            brokers, _ = wire.metadata(address)
        except OSError:
            return False
        return len(brokers) == len(self.names)

    def last_words(self):
        return " | ".join(log.read_text(errors="replace").strip()[-300:] for log in self.folder.glob("*.log"))

    def kill(self, address):
        process = self.processes[self.names[address]]
        process.kill()
        process.wait()

    def stop(self):
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def binary(name):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = target / "release" / name
    if not path.exists():
        raise RuntimeError(f"{path} is not there: cargo build --release --workspace")
    return path


def mk(folder, count):
    """One mkbroker that stands alone, or a mkzoo and so many."""
    fleet = Fleet(folder, is_mk=True)
    try:
        start_mk(fleet, count)
    except RuntimeError:
        fleet.stop()
        raise
    return fleet


def start_mk(fleet, count):
    """Each process is ready before the next is started: it chooses its port and says it."""
    anywhere, cluster = "127.0.0.1:0", []
    if count > 1:
        fleet.start("zoo", [binary("mkzoo"), "--data", fleet.folder / "zoo", "--listen", anywhere])
        cluster = ["--zoo", fleet.told("zoo")]
    for number in range(1, count + 1):
        name = f"broker-{number}"
        member = cluster and [*cluster, "--set", f"broker.id={number}"]
        fleet.start(name, [binary("mkbroker"), "--data", fleet.folder / name, "--listen", anywhere, *member])
        fleet.names[fleet.told(name)] = name


def kafka(folder, count, jars):
    """So many of Apache Kafka in KRaft mode, each of them broker and controller."""
    fleet = Fleet(folder, is_mk=False)
    ports, controllers = free_ports(count), free_ports(count)
    run = ["java", "-cp", f"{jars}/*"]
    voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1))
    for number, (port, controller) in enumerate(zip(ports, controllers), 1):
        data = fleet.folder / f"kafka-{number}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": data,
            "default.replication.factor": count,
            "min.insync.replicas": min(count, 2),
            "offsets.topic.replication.factor": count,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.replication.factor": count,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,  # as mk has it, and a test need not wait
            "broker.session.timeout.ms": 3000,  # by default 9 s, which are all of the load's time
        }
        file = fleet.folder / f"kafka-{number}.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        format_it = [*run, "kafka.tools.StorageTool", "format", "-t", "bWstY2xpZW50cy10ZXN0cw", "-c", file]
        subprocess.run(format_it, check=True, capture_output=True)
        options = os.environ.get("KAFKA_OPTS", "").split()
        command = ["java", "-Xmx1g", *options, *run[1:], "kafka.Kafka", file]
        fleet.start(f"kafka-{number}", command)
        fleet.names[f"127.0.0.1:{port}"] = f"kafka-{number}"
    return fleet
