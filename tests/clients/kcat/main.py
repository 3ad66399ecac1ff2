"""main.py CLIENT CASE BOOTSTRAP PREFIX: one case with kcat, the command line over librdkafka.

It has no admin client: topics are made by the first that asks for them.
"""

import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from cases import Failover, equal, group_of_two, say, until
from commands import Member, Running, every_codec, main, numbers, run


def produce(bootstrap, topic, lines, *more):
    run(["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", "0", *more], "".join(f"{l}\n" for l in lines))


def consume(bootstrap, topic, *more):
    """The records of partition 0 up to its end, a line each."""
    return run(["kcat", "-C", "-q", "-e", "-b", bootstrap, "-t", topic, "-p", "0", *more]).splitlines()


def create(bootstrap, *topics):
    """Asks for the topics until they are there and have a leader."""
    for topic in topics:
        def there():
            listed = json.loads(run(["kcat", "-L", "-J", "-b", bootstrap, "-t", topic]))
            return any(p["leader"] >= 0 for p in listed["topics"][0]["partitions"])
        until(there, f"{topic} is there")


def codecs(bootstrap, topic):
    """What each codec has packed reads back equal, out of one log."""
    create(bootstrap, topic)
    every_codec(lambda codec, lines: produce(bootstrap, topic, lines, "-z", codec),
                lambda _count: consume(bootstrap, topic, "-o", "beginning"))


def offsets(bootstrap, topic):
    """A consumer begins wherever it is told to: at both ends, within a batch, at a time."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(7))
    time.sleep(0.1)
    half_past = int(time.time() * 1000)
    time.sleep(0.1)
    produce(bootstrap, topic, range(7, 10))
    equal(numbers(consume(bootstrap, topic, "-o", "beginning")), list(range(10)), "at the beginning")
    equal(numbers(consume(bootstrap, topic, "-o", "5")), list(range(5, 10)), "in the middle of a batch")
    by_time = consume(bootstrap, topic, "-o", f"s@{half_past}")
    equal(numbers(by_time), list(range(7, 10)), "by timestamp")
    equal(numbers(consume(bootstrap, topic, "-o", "-2")), [8, 9], "two before the end")
    found = []
    at_end = Running(["kcat", "-C", "-q", "-u", "-c", "1", "-b", bootstrap, "-t", topic, "-p", "0",
                      "-o", "end"], found.append)
    time.sleep(2)
    equal(found, [], "at the end, before there is more")
    produce(bootstrap, topic, [10])
    equal(at_end.ended(), 0, "exit code")
    equal(numbers(found), [10], "at the end")


def fields(bootstrap, topic):
    """Headers, and keys and values that are null or empty, come back as they were."""
    create(bootstrap, topic)
    headers = ["-H", "a=1", "-H", "b=two", "-H", "a=2", "-H", "empty="]
    produce(bootstrap, topic, ["key:value"], "-K", ":", *headers)
    produce(bootstrap, topic, ["null key"])
    produce(bootstrap, topic, ["null value:"], "-K", ":", "-Z")
    produce(bootstrap, topic, ["empty value:"], "-K", ":")
    produce(bootstrap, topic, [":empty key"], "-K", ":")
    # %K and %S are the lengths of key and value; -1 is null.
    found = consume(bootstrap, topic, "-o", "beginning", "-f", "%K %k|%S %s|%h\\n")
    wanted = ["3 key|5 value|a=1,b=two,a=2,empty=", "-1 |8 null key|", "10 null value|-1 |",
              "11 empty value|0 |", "0 |9 empty key|"]
    equal(found, wanted, "fields")


def large(bootstrap, topic):
    """A record of 900 KB."""
    create(bootstrap, topic)
    value = "".join(f"{n:06}" for n in range(150_000))
    produce(bootstrap, topic, [value], "-z", "none")
    equal(consume(bootstrap, topic, "-o", "beginning"), [value], "the large record")


def idempotence(bootstrap, topic):
    """10 000 records of an idempotent producer: all, in order, none twice."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(10_000), "-X", "enable.idempotence=true")
    found = numbers(consume(bootstrap, topic, "-o", "beginning"))
    equal(found, list(range(10_000)), "10 000 records")


def heard(member, line):
    """What a member says: records, and the topics that it is given."""
    if line.startswith("record "):
        member.records.append(int(line.split()[1]))
    elif "assigned:" in line:
        say(line)
        member.partitions = set(re.findall(r"([\w.-]+) \[0\]", line.split("assigned:")[1]))
    elif "revoked" in line:
        member.partitions = set()


def group(bootstrap, topic):
    """Two members share 4 topics of one partition; one comes, one goes, and every record is read once."""
    topics = [f"{topic}-{n}" for n in range(4)]
    create(bootstrap, *topics)

    def send(some):
        for n, one in enumerate(topics):
            produce(bootstrap, one, some[n::4])

    def join(_name):
        # The default would give the first partition of every topic to the first member.
        command = ["kcat", "-b", bootstrap, "-u", "-X", "partition.assignment.strategy=roundrobin",
                   "-X", "auto.commit.interval.ms=100", "-X", "auto.offset.reset=earliest",
                   "-f", "record %s\\n", "-G", f"{topic}-group", *topics]
        # What it is given is told on stderr: both streams in one, or they come out of order.
        return Member(["sh", "-c", 'exec "$0" "$@" 2>&1', *command], heard)

    group_of_two(send, join, settle=1)


def commit(bootstrap, topic):
    """A group that stopped goes on where it had committed."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(10))

    def read():
        return numbers(run(["kcat", "-b", bootstrap, "-q", "-c", "5", "-X", "auto.offset.reset=earliest",
                            "-G", f"{topic}-group", topic]).splitlines())

    equal(read(), list(range(5)), "one half")
    equal(read(), list(range(5, 10)), "the other half")


def admin(bootstrap, topic):
    """What it can ask: the brokers and topics there are, and offsets."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(10))
    listed = json.loads(run(["kcat", "-L", "-J", "-b", bootstrap]))
    equal(bool(listed["brokers"]), True, "there are brokers")
    equal(topic in [one["topic"] for one in listed["topics"]], True, "the topic is listed")
    found = run(["kcat", "-Q", "-b", bootstrap, "-t", f"{topic}:0:-1"]).split()
    equal(found[-1], "10", "the end")
    print("only asks: it cannot change anything")


def failover(bootstrap, topic):
    """The leader is killed under load: every acknowledged record is read back."""
    create(bootstrap, topic)
    pace, number = Failover(topic), 0

    def delivered(line):
        if found := re.search(r"delivered to partition 0 \(offset (\d+)\)", line):
            pace.acked.add(int(found[1]))

    load = Running(["kcat", "-P", "-vv", "-b", bootstrap, "-t", topic, "-p", "0", "-X", "acks=all",
                    "-X", "enable.idempotence=true"], delivered, "stderr")
    while pace.going_on():
        load.process.stdin.write(f"{number}\n")
        load.process.stdin.flush()
        number += 1
        time.sleep(0.001)
    load.process.stdin.close()
    equal(load.ended(40), 0, "exit code, when all is acknowledged")
    found = [line.split() for line in consume(bootstrap, topic, "-o", "beginning", "-f", "%o %s\\n")]
    pace.verify([int(offset) for offset, _ in found])
    equal([int(value) for _, value in found], list(range(number)), "all records, each once")


main(globals(), *sys.argv[2:])
