"""What several clients do with one topic: the shows, each on one broker and on three.

together  mk's, Java's and librdkafka's client write into one topic at once, and each reads all of it.
mixed     one group of mk's client and Java's, the latter with the classic and with the new protocol.
"""

import base64
import hashlib
import json
from collections import Counter

from cases import CODECS, equal
from commands import run

CLIENTS = ("java-classic", "confluent-kafka")  # Java's and librdkafka
PARTITIONS = 6
BEGIN = 1_700_000_000_000  # when the records are said to be of


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


def send_with_mkctl(stage, sent):
    """A command for each codec; the places of the records, in their order."""
    places = []
    for codec in CODECS:
        lines = []
        for _, (timestamp, key, value, headers) in filter(lambda one: one[0] == codec, sent):
            pairs = [{"name": name, **to_json("value", content)} for name, content in headers]
            line = {"timestamp": timestamp, **to_json("key", key), **to_json("value", value)}
            lines.append(json.dumps({**line, **({"headers": pairs} if pairs else {})}))
        receipts = run(stage.mkctl("produce", stage.topic, "--json", "-J", "-q", "-z", codec), "\n".join(lines))
        places += [f"{one['partition']}\t{one['offset']}" for one in map(json.loads, receipts.splitlines())]
    return places


def read_with_mkctl(stage):
    for found in map(json.loads, run(stage.mkctl("consume", stage.topic, "-o", "start", "-e", "-J")).splitlines()):
        headers = [(one["name"], from_json("value", one)) for one in found.get("headers", [])]
        record = found["timestamp"], from_json("key", found), from_json("value", found), headers
        yield f"{found['partition']}\t{found['offset']}\t{fields(record)}"


def together(stage):
    """Three clients write at once; each reads what all have written, where it was acknowledged."""
    run(stage.mkctl("topic", "create", stage.topic, "-p", str(PARTITIONS)))
    programs = {name: stage.start(name, stage.client(name, "together")) for name in CLIENTS}
    sent = {name: list(records(name)) for name in ("mkctl", *CLIENTS)}
    for name, program in programs.items():
        program.tell("".join(f"{codec}\t{fields(record)}\n" for codec, record in sent[name]) + "\n")
    places = {"mkctl": send_with_mkctl(stage, sent["mkctl"])}
    for name, program in programs.items():
        stage.until(lambda: "sent" in program.printed, f"{name} has sent")
        end = len(sent[name])
        equal(program.printed[end:], ["sent"], f"{name} says")
        places[name] = program.printed[:end]
    wanted = sorted(f"{place}\t{fields(record)}" for name in sent
                    for place, (_, record) in zip(places[name], sent[name], strict=True))
    read = {"mkctl": sorted(read_with_mkctl(stage))}
    for name, program in programs.items():
        program.tell(f"{len(wanted)}\n")
        stage.finish(name)
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


def mixed(stage):
    """Three members share the partitions and read each record once; two leave under load, one after
    the other, and nothing is lost."""
    run(stage.mkctl("topic", "create", stage.topic, "-p", str(PARTITIONS)))
    members = {name: stage.start(name, stage.client(name, "mixed")) for name in ("java-classic", "java-consumer")}
    members["mkctl"] = stage.start("mkctl", stage.mkctl("consume", stage.topic, "-g", stage.group))
    produce = stage.mkctl("produce", stage.topic, "-K", ":", "-q")

    def covered(count):
        shares = [(one["assigned"], one["target"]) for one in stage.groups("members", stage.group)]
        return (len(shares) == count and all(share and set(share) == set(target) for share, target in shares)
                and sum(len(share) for share, _ in shares) == PARTITIONS)

    def all_read():
        return all(one["lag"] == 0 for one in stage.groups("describe", stage.group))

    # Of a group that nobody has joined yet, `members` says that it is not there, and ends with 1.
    stage.until(lambda: stage.group in [one["group"] for one in stage.groups("list")], "the group is there")
    stage.until(lambda: covered(3), "three members read all partitions")
    run(produce, "".join(f"{number}:{number}\n" for number in range(3000)))
    stage.until(all_read, "all is read and committed")
    end = 3000
    for count, name in ((2, "mkctl"), (1, "java-classic")):
        load = stage.load(produce, number=end)
        begun = load.number + 200
        stage.until(lambda: load.number > begun, "the load has begun")
        leave(stage, name)
        stage.until(lambda: covered(count), f"without {name} all partitions are read")
        end = load.stop()
        stage.until(all_read, "all is read and committed")
    leave(stage, "java-consumer")
    read = {name: [int(line) for line in member.printed] for name, member in members.items()}
    times = Counter(number for numbers in read.values() for number in numbers)
    equal(sorted(set(range(end)) - set(times))[:10], [], "records that nobody has read")
    twice = [number for number, count in times.items() if count > 1]
    equal([number for number in twice if number < 3000][:10], [], "records read twice, while nobody left")
    shares = ", ".join(f"{name} {len(numbers)}" for name, numbers in read.items())
    return f"{end} records, all read ({shares}), {len(twice)} twice while members left under load"


def leave(stage, name):
    """mkctl ends on SIGTERM, the Java programs with their input; both commit what they have read."""
    if name == "mkctl":
        stage.programs[name].process.terminate()
    stage.finish(name)


SHOWS = {"together": together, "mixed": mixed}
