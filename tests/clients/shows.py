"""What several clients do with one topic: the shows, each on one broker and on three.

together  mk's, Java's and librdkafka's client write into one topic at once, and each reads all of it.
mixed     one group of mk's client and Java's, the latter with the classic and with the new protocol.
"""

import base64
import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import brokers

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))

from cases import CODECS, equal, until
from commands import Running, run

JAVA, LIBRDKAFKA = "java-classic", "confluent-kafka"
CLIENTS = (JAVA, LIBRDKAFKA)
PARTITIONS = 6
BEGIN = 1_700_000_000_000  # when the records are said to be of


def mkctl(bootstrap, *words):
    return [brokers.binary("mkctl"), "-b", bootstrap, *words]


class Program(Running):
    """A client's program that is told what to do on its input; its lines are kept."""

    def __init__(self, command):
        self.printed = []
        super().__init__(command, self.printed.append)

    def tell(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def finish(self, what):
        self.process.stdin.close()
        equal(self.ended(60), 0, f"exit code of {what} ({' '.join(self.printed[-1:])[:200]})")


# A record is (timestamp, key, value, headers), a place before it is (partition, offset).


def records(client):
    """600 records for each codec; the keys are those of the other clients, too."""
    for number in range(600 * len(CODECS)):
        key = {0: None, 1: b""}.get(number % 10, f"key-{number % 97}".encode())
        value = {2: None, 3: b"", 4: bytes(range(256))}.get(
            number % 10, f"{client} {number} ".encode() * (1 + number % 20))
        headers = [("client", client.encode()), ("a", b"1"), ("a", None)] if number % 3 == 0 else []
        yield CODECS[number // 600], (BEGIN + number, key, value, headers)


def hex_of(data):
    return "-" if data is None else data.hex()


def fields(record):
    """The line of a record that the clients' programs read and print."""
    timestamp, key, value, headers = record
    pairs = ",".join(f"{name}={hex_of(content)}" for name, content in headers)
    return f"{timestamp}\t{hex_of(key)}\t{hex_of(value)}\t{pairs}"


def to_json(name, data):
    """A field as mkctl prints and reads it."""
    try:
        return {name: data if data is None else data.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}_base64": base64.b64encode(data).decode()}


def from_json(name, found):
    if encoded := found.get(f"{name}_base64"):
        return base64.b64decode(encoded)
    return None if found[name] is None else found[name].encode()


def send_with_mkctl(bootstrap, topic, sent):
    """A command for each codec; the places of the records, in their order."""
    places = []
    for codec in CODECS:
        lines = []
        for _, (timestamp, key, value, headers) in filter(lambda one: one[0] == codec, sent):
            pairs = [{"name": name, **to_json("value", content)} for name, content in headers]
            line = {"timestamp": timestamp, **to_json("key", key), **to_json("value", value)}
            lines.append(json.dumps({**line, **({"headers": pairs} if pairs else {})}))
        receipts = run(mkctl(bootstrap, "produce", topic, "--json", "-J", "-q", "-z", codec), "\n".join(lines))
        places += [f"{one['partition']}\t{one['offset']}" for one in map(json.loads, receipts.splitlines())]
    return places


def read_with_mkctl(bootstrap, topic):
    for found in map(json.loads, run(mkctl(bootstrap, "consume", topic, "-o", "start", "-e", "-J")).splitlines()):
        headers = [(one["name"], from_json("value", one)) for one in found.get("headers", [])]
        record = found["timestamp"], from_json("key", found), from_json("value", found), headers
        yield f"{found['partition']}\t{found['offset']}\t{fields(record)}"


def together(fleet, topic, commands):
    """Three clients write at once; each reads what all have written, where it was acknowledged."""
    bootstrap = fleet.bootstrap
    run(mkctl(bootstrap, "topic", "create", topic, "-p", str(PARTITIONS)))
    prefix = topic.removesuffix("-together")
    programs = {name: Program([*commands[name], name, "together", bootstrap, prefix]) for name in CLIENTS}
    sent = {name: list(records(name)) for name in ("mkctl", *CLIENTS)}
    for name, program in programs.items():
        program.tell("".join(f"{codec}\t{fields(record)}\n" for codec, record in sent[name]) + "\n")
    places = {"mkctl": send_with_mkctl(bootstrap, topic, sent["mkctl"])}
    for name, program in programs.items():
        until(lambda: "sent" in program.printed or program.process.poll() is not None, f"{name} has sent")
        end = len(sent[name])
        equal(program.printed[end:], ["sent"], f"{name} says")
        places[name] = program.printed[:end]
    wanted = sorted(f"{place}\t{fields(record)}" for name in sent
                    for place, (_, record) in zip(places[name], sent[name], strict=True))
    read = {"mkctl": sorted(read_with_mkctl(bootstrap, topic))}
    for name, program in programs.items():
        program.tell(f"{len(wanted)}\n")
        program.finish(name)
        read[name] = sorted(program.printed[len(sent[name]) + 1:])
    for name, lines in read.items():
        equal(lines == wanted, True, f"what {name} reads is what was sent")
    equal(split_keys(wanted), [], "keys in more than one partition")
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:16]
    return f"{len(wanted)} records of {', '.join(sent)}; each reads all of them, sha256 {digest}"


def split_keys(lines):
    """The keys that clients have put into different partitions. Where null and empty ones go is free."""
    partitions = {}
    for line in lines:
        partition, _, _, key, *_ = line.split("\t")
        partitions.setdefault(key, set()).add(partition)
    return [key for key, found in partitions.items() if len(found) > 1 and key not in ("-", "")]


class Load(threading.Thread):
    """Gives a command the numbers from `number` on, a line NUMBER:TEXT about each millisecond, until it is told
    to stop."""

    def __init__(self, command, number, text=str):
        super().__init__(daemon=True)
        self.number, self.text, self.stopping = number, text, False
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.start()

    def run(self):
        while not self.stopping:
            self.process.stdin.write(f"{self.number}:{self.text(self.number)}\n")
            self.process.stdin.flush()
            self.number += 1
            time.sleep(0.001)
        self.process.stdin.close()

    def stop(self):
        """The number behind the last; the command has ended well then."""
        self.stopping = True
        self.join()
        equal(self.process.wait(60), 0, "exit code of the load")
        return self.number


def mixed(fleet, topic, commands):
    """Three members share the partitions and read each record once; two leave under load, one after
    the other, and nothing is lost."""
    bootstrap = fleet.bootstrap
    run(mkctl(bootstrap, "topic", "create", topic, "-p", str(PARTITIONS)))
    prefix, group = topic.removesuffix("-mixed"), f"{topic}-group"
    members = {name: Program([*commands[JAVA], name, "mixed", bootstrap, prefix])
               for name in ("java-classic", "java-consumer")}
    members["mkctl"] = Program(mkctl(bootstrap, "consume", topic, "-g", group))

    def listed(*command):
        return [json.loads(line) for line in run(mkctl(bootstrap, "group", *command, "-J")).splitlines()]

    def covered(count):
        shares = [(one["assigned"], one["target"]) for one in listed("members", group)]
        return (len(shares) == count and all(share and set(share) == set(target) for share, target in shares)
                and sum(len(share) for share, _ in shares) == PARTITIONS)

    def all_read():
        return all(one["lag"] == 0 for one in listed("describe", group))

    # Of a group that nobody has joined yet, `members` says that it is not there, and ends with 1.
    until(lambda: group in [one["group"] for one in listed("list")], "somebody has joined")
    until(lambda: covered(3), "three members read all partitions")
    numbers = "".join(f"{number}:{number}\n" for number in range(3000))
    run(mkctl(bootstrap, "produce", topic, "-K", ":", "-q"), numbers)
    until(all_read, "all is read and committed")
    end = 3000
    for count, name in ((2, "mkctl"), (1, "java-classic")):
        load = Load(mkctl(bootstrap, "produce", topic, "-K", ":", "-q"), end)
        begun = load.number + 200
        until(lambda: load.number > begun, "the load has begun")
        leave(members[name], name)
        until(lambda: covered(count), f"without {name} all partitions are read")
        end = load.stop()
        until(all_read, "all is read and committed")
    leave(members["java-consumer"], "java-consumer")
    read = {name: [int(line) for line in member.printed] for name, member in members.items()}
    times = Counter(number for numbers in read.values() for number in numbers)
    equal(sorted(set(range(end)) - set(times))[:10], [], "records that nobody has read")
    twice = [number for number, count in times.items() if count > 1]
    equal([number for number in twice if number < 3000][:10], [], "records read twice, while nobody left")
    shares = ", ".join(f"{name} {len(numbers)}" for name, numbers in read.items())
    return f"{end} records, all read ({shares}), {len(twice)} twice while members left under load"


def leave(member, name):
    """mkctl ends on SIGTERM, the Java programs with their input; both commit what they have read."""
    if name == "mkctl":
        member.process.terminate()
    member.finish(name)


SHOWS = {"together": together, "mixed": mixed}


def show(name, run_it, fleet, commands):
    """Runs one; whether it went well."""
    begun, count, steps = time.monotonic(), len(fleet.addresses), io.StringIO()
    try:
        with contextlib.redirect_stderr(steps):
            words = run_it(fleet, f"mk-show-{count}-{name}", commands)
        state = "passed"
    except Exception as error:  # whatever it is, it is the show's result
        state, words = "failed", f"{type(error).__name__}: {error}"
        print(*steps.getvalue().splitlines()[-20:], sep="\n", file=sys.stderr)
        for log in (*fleet.folder.glob("*.log"), *fleet.folder.glob("programs/*.log")):
            troubles = re.findall(r".*\b(?:WARN|ERROR)\b.*", log.read_text(errors="replace"))
            print(log.name, *(line[:400] for line in troubles[-5:]), sep="\n  ", file=sys.stderr)
    print(f"{state} {time.monotonic() - begun:5.1f} s  {name}, brokers: {count}  {words}", flush=True)
    return state == "passed"
