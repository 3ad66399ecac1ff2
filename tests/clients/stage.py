"""Where a show runs, and what it is made of.

Shows of Kafka's frameworks do all with Kafka's own clients but ask mk with mkctl, too, so that Apache Kafka can be
asked whether they are right.
"""

import contextlib
import io
import json
import re
import sys
import threading
import time

import brokers
import wire

from cases import equal, until
from commands import Running, run


class Program(Running):
    """A client's program that is told what to do on its input; its lines are kept."""

    def __init__(self, command):
        self.printed = []
        super().__init__(command, self.printed.append)

    def tell(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def finish(self, what):
        """Ends its input; it has to end well then."""
        self.process.stdin.close()
        equal(self.ended(60), 0, f"exit code of {what} ({' '.join(self.printed[-1:])[:200]})")

    def kill(self):
        self.process.kill()
        self.ended()


class Load(threading.Thread):
    """Tells a program the numbers from `number` on, a line NUMBER:TEXT about each millisecond, until it is told
    to stop."""

    def __init__(self, program, number, text):
        super().__init__(daemon=True)
        self.program, self.number, self.text, self.stopping = program, number, text, False
        self.start()

    def run(self):
        while not self.stopping:
            self.program.tell(f"{self.number}:{self.text(self.number)}\n")
            self.number += 1
            time.sleep(0.001)

    def stop(self):
        """The number behind the last; all are acknowledged then."""
        self.stopping = True
        self.join()
        self.program.finish("the load")
        return self.number


class Stage:
    """Where a show runs: its brokers, topic and folder, and its programs, which end with it."""

    def __init__(self, fleet, topic, commands):
        self.fleet, self.topic, self.commands = fleet, topic, commands
        self.group = f"{topic}-group"
        self.folder = fleet.folder / "programs"
        self.folder.mkdir()
        self.programs, self.loads = {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for load in self.loads:
            load.stopping = True
        for program in (*self.programs.values(), *(load.program for load in self.loads)):
            program.kill()

    def java(self, name, *words):
        """The command of one of the frameworks' programs, whose log is NAME.log."""
        settings = {"logFile": self.folder / f"{name}.log", "defaultLogLevel": "warn"}
        log = (f"-Dorg.slf4j.simpleLogger.{setting}={value}" for setting, value in settings.items())
        java, *options = self.commands["frameworks"]
        return [java, *log, *options, *map(str, words)]

    def main(self, name, what, *words):
        """The command of one of the programs in frameworks/src."""
        return self.java(name, "Main", what, self.fleet.bootstrap, *words)

    def client(self, name, show):
        """The command of a client's program, which is told what its topic's name begins with."""
        return [*self.commands[name], name, show, self.fleet.bootstrap, self.topic.removesuffix(f"-{show}")]

    def mkctl(self, *words):
        """A command of mkctl."""
        return [brokers.binary("mkctl"), "-b", self.fleet.bootstrap, *words]

    def start(self, name, command):
        self.programs[name] = program = Program(command)
        return program

    def load(self, command, text=str, number=0):
        self.loads.append(load := Load(Program(command), number, text))
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
        self.programs.pop(name).kill()

    def lose_coordinator(self):
        """Kills the group's, if it is not the only broker."""
        if len(self.fleet.addresses) > 1:
            self.fleet.kill(wire.coordinator(self.fleet.addresses[0], self.group))

    def groups(self, *words):
        """What mkctl tells of them."""
        return [json.loads(line) for line in run(self.mkctl("group", *words, "-J")).splitlines()]

    def check_led(self, protocol_type):
        """mk says that a member leads the group; Apache Kafka is not asked."""
        if self.fleet.is_mk:
            groups = {one["group"]: (one["type"], one["protocol_type"]) for one in self.groups("list")}
            equal(groups.get(self.group), ("classic", protocol_type), "what the group is")


def show(name, run_it, fleet, commands):
    """Runs one; whether it went well."""
    begun, count, steps = time.monotonic(), len(fleet.addresses), io.StringIO()
    try:
        with contextlib.redirect_stderr(steps), Stage(fleet, f"mk-show-{count}-{name}", commands) as stage:
            words = run_it(stage)
        state = "passed"
    except Exception as error:  # whatever it is, it is the show's result
        state, words = "failed", f"{type(error).__name__}: {error}"
        print(*steps.getvalue().splitlines()[-20:], sep="\n", file=sys.stderr)
        for log in (*fleet.folder.glob("*.log"), *fleet.folder.glob("programs/*.log")):
            troubles = re.findall(r".*\b(?:WARN|ERROR)\b.*", log.read_text(errors="replace"))
            print(log.name, *(line[:400] for line in troubles[-5:]), sep="\n  ", file=sys.stderr)
    print(f"{state} {time.monotonic() - begun:5.1f} s  {name}, brokers: {count}  {words}", flush=True)
    return state == "passed"
