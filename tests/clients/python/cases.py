"""What the cases of the three clients have in common: the records, and how a wait ends."""

import random
import sys
import threading
import time

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LARGE = random.Random(1).randbytes(900_000)
# Key, value, headers. Kafka tells null from empty, and lets a header be there twice.
FIELDS = [
    (b"key", b"value", [("a", b"1"), ("b", bytes(range(256))), ("a", b"2"), ("empty", b"")]),
    (None, b"null key", []),
    (b"null value", None, []),
    (b"empty value", b"", []),
    (b"", b"empty key", []),
]


class NotApplicable(Exception):
    """The client cannot do this by nature; the text says why."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: found {str(found)[:200]}, wanted {str(wanted)[:200]}")
    say(f"{what}: as wanted")


def packable(codec, number):
    """A value that shrinks, so that no producer sends it as it is."""
    return f"{codec} {number} ".encode() * 50


def until(done, what, seconds=40):
    """Waits until done() says so."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    say(what)


class Failover:
    """The pace of the case failover: says when the leader may be killed, and ends 10 s later."""

    def __init__(self, topic):
        self.topic, self.end, self.acked = topic, None, set()

    def going_on(self):
        if self.end is None and len(self.acked) >= 100:
            print(f"ready {self.topic} 0", flush=True)
            self.end = time.monotonic() + 10
        return self.end is None or time.monotonic() < self.end

    def verify(self, found):
        missing = sorted(self.acked - set(found))
        say(f"{len(self.acked)} acknowledged, {len(found)} found")
        equal(missing[:10], [], "acknowledged and not there")


class Member(threading.Thread):
    """A member of a group in a thread of its own: step(member) polls, commits, fills these."""

    def __init__(self, name, step):
        super().__init__(daemon=True)
        self.name, self.step = name, step
        self.partitions, self.records = set(), []
        self.leaving, self.error = False, None
        self.start()

    def run(self):
        try:
            self.step(self)
        except Exception as error:  # told by the case, whose thread this is not
            self.error = error
        say(f"{self.name} has gone, {self.error or 'in good order'}")

    def leave(self):
        self.leaving = True
        self.join(30)


def group_of_two(produce, join, settle=0):
    """The story of the case group. produce(numbers) spreads records over 4 partitions and waits for
    them; join(name) makes a Member. Records are read and committed before the members change, so
    none may be read twice; `settle` is how long that takes a member that commits by itself."""
    first = join("first")
    members = [first]

    def shares(*wanted):
        def reached():
            for member in members:
                if member.error:
                    raise member.error
            sizes = sorted(len(member.partitions) for member in members)
            return sizes == list(wanted) and len(set().union(*(m.partitions for m in members))) == 4
        until(reached, f"partitions of each member: {wanted}")

    def read(count):
        until(lambda: sum(len(m.records) for m in everyone) >= count, f"{count} records read")
        time.sleep(settle)

    everyone = [first]
    shares(4)
    produce(range(200))
    read(200)
    second = join("second")
    members.append(second)
    everyone.append(second)
    shares(2, 2)
    produce(range(200, 400))
    read(400)
    equal(bool(second.records), True, "the second has read something")
    second.leave()
    members.remove(second)
    shares(4)
    produce(range(400, 600))
    read(600)
    time.sleep(1)  # for what would come twice
    first.leave()
    found = sorted(record for member in everyone for record in member.records)
    equal(found, list(range(600)), "all records, each once")
