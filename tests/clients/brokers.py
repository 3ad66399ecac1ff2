"""Starts what the clients talk to: mk's release binaries or, to prove a case, Apache Kafka itself.

A fleet is a list of processes that serve one address each; all are on 127.0.0.1, and all are ended
by their ids.
"""

import os
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

    def __init__(self, folder):
        self.folder, self.processes, self.addresses = Path(folder), {}, []

    @property
    def bootstrap(self):
        return ",".join(self.addresses)

    def start(self, name, command, address=None, **options):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
        self.processes[address or name] = process
        if address:
            self.addresses.append(address)

    def wait(self, seconds=60):
        """Until every broker knows of all of them."""
        end = time.monotonic() + seconds
        for address in self.addresses:
            while not self.ready(address):
                if self.processes[address].poll() is not None:
                    raise RuntimeError(f"the broker at {address} ended: {self.last_words()}")
                if time.monotonic() > end:
                    raise RuntimeError(f"no broker at {address}: {self.last_words()}")
                time.sleep(0.1)

    def ready(self, address):
        try:
            brokers, _ = wire.metadata(address)
        except OSError:
            return False
        return len(brokers) == len(self.addresses)

    def last_words(self):
        return " | ".join(log.read_text(errors="replace").strip()[-300:] for log in self.folder.glob("*.log"))

    def kill(self, address):
        self.processes[address].kill()
        self.processes[address].wait()

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
    fleet = Fleet(folder)
    zoo_port, *ports = free_ports(count + 1)
    cluster = []
    if count > 1:
        zoo = f"127.0.0.1:{zoo_port}"
        fleet.start("zoo", [binary("mkzoo"), "--data", fleet.folder / "zoo", "--listen", zoo])
        cluster = ["--zoo", zoo]
    for number, port in enumerate(ports, 1):
        name, address = f"broker-{number}", f"127.0.0.1:{port}"
        member = cluster and [*cluster, "--set", f"broker.id={number}"]
        command = [binary("mkbroker"), "--data", fleet.folder / name, "--listen", address, *member]
        fleet.start(name, command, address)
    return fleet


def kafka(folder, count, jars):
    """So many of Apache Kafka in KRaft mode, each of them broker and controller."""
    fleet = Fleet(folder)
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
        fleet.start(f"kafka-{number}", command, f"127.0.0.1:{port}")
    return fleet
