"""Where a show of Kafka's frameworks runs, and what it is made of.

All but what mkctl tells is done with Kafka's own clients, so that Apache Kafka can be asked whether a show is
right.
"""

import json

import wire
from shows import Load, Program, mkctl

from cases import equal, until
from commands import run


class Stage:
    """Where a show runs: its brokers, topic and folder, and its programs, which end with it."""

    def __init__(self, fleet, topic, java):
        self.fleet, self.topic, self.java = fleet, topic, java
        self.group = f"{topic}-group"
        self.folder = fleet.folder / "programs"
        self.folder.mkdir()
        self.programs, self.loads = {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for load in self.loads:
            load.stopping = True
        for one in (*self.programs.values(), *self.loads):
            one.process.kill()
            one.process.wait()

    def command(self, name, *words):
        """Java's, whose log is NAME.log."""
        settings = {"logFile": self.folder / f"{name}.log", "defaultLogLevel": "warn"}
        log = (f"-Dorg.slf4j.simpleLogger.{setting}={value}" for setting, value in settings.items())
        return [self.java[0], *log, *self.java[1:], *map(str, words)]

    def main(self, name, what, *words):
        """The command of one of the programs in frameworks/src."""
        return self.command(name, "Main", what, self.fleet.bootstrap, *words)

    def start(self, name, command):
        self.programs[name] = program = Program(command)
        return program

    def load(self, command, text=str):
        self.loads.append(load := Load(command, 0, text))
        return load

    def create(self, topic, partitions):
        run(self.main("create", "create", partitions, topic))

    def until(self, done, what):
        """Waits; no program may end meanwhile."""
        def holds():
            for name, program in self.programs.items():
                if program.process.poll() is not None:
                    words = " ".join(program.printed[-1:])[:300]
                    raise RuntimeError(f"{name} ended with {program.process.returncode}: {words}")
            return done()
        until(holds, what, 90)

    def finish(self, name):
        """Ends the input of a program, which has to end well then."""
        self.programs[name].finish(name)
        del self.programs[name]

    def kill(self, name):
        program = self.programs.pop(name)
        program.process.kill()
        program.ended()

    def lose_coordinator(self):
        """Kills the group's, if it is not the only broker."""
        if len(self.fleet.addresses) > 1:
            self.fleet.kill(wire.coordinator(self.fleet.addresses[0], self.group))

    def mkctl_group(self, command, *words):
        """What mkctl tells of groups."""
        lines = run(mkctl(self.fleet.bootstrap, "group", command, *words, "-J")).splitlines()
        return [json.loads(line) for line in lines]

    def check_led(self, protocol_type):
        """mk says that a member leads the group; Apache Kafka is not asked."""
        if self.fleet.is_mk:
            groups = {one["group"]: (one["type"], one["protocol_type"]) for one in self.mkctl_group("list")}
            equal(groups.get(self.group), ("classic", protocol_type), "what the group is")
