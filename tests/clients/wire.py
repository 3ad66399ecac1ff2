"""Three requests of Kafka's protocol, just enough for the runner to ask the broker itself: who leads a
partition or a group, and how the batches in a log are packed."""

import socket
import struct

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FETCH, METADATA, FIND_COORDINATOR = 1, 3, 10


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        [value] = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self):
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def array(self, element):
        return [element() for _ in range(max(self.take("i"), 0))]


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def ask(address, key, version, body):
    host, port = address.rsplit(":", 1)
    request = struct.pack(">hhi", key, version, 1) + text("matrix") + body
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        stream = connection.makefile("rb")
        head = stream.read(4)
        if len(head) < 4:
            raise ConnectionError(f"{address} closed the connection")
        reader = Reader(stream.read(*struct.unpack(">i", head)))
    reader.take("i")  # the correlation id
    return reader


def metadata(address, *topics):
    """The brokers' addresses by id, and for each of the topics its partitions' leaders and replicas."""
    reader = ask(address, METADATA, 1, struct.pack(">i", len(topics)) + b"".join(map(text, topics)))

    def broker():
        number, host, port, _rack = reader.take("i"), reader.text(), reader.take("i"), reader.text()
        return number, f"{host}:{port}"

    def partition():
        error, number, leader = reader.take("h"), reader.take("i"), reader.take("i")
        replicas, _in_sync = reader.array(lambda: reader.take("i")), reader.array(lambda: reader.take("i"))
        return number, {"error": error, "leader": leader, "replicas": replicas}

    def topic_of():
        _error, _name, _internal = reader.take("h"), reader.text(), reader.take("b")
        return dict(reader.array(partition))

    brokers = dict(reader.array(broker))
    reader.take("i")  # the controller
    return brokers, reader.array(topic_of)


def leader_of(address, topic, partition):
    """The address of the broker that leads the partition, or None."""
    brokers, [partitions] = metadata(address, topic)
    return brokers.get(partitions.get(partition, {}).get("leader"))


def coordinator(address, group):
    """The address of the broker that is the group's coordinator."""
    reader = ask(address, FIND_COORDINATOR, 0, text(group))
    if error := reader.take("h"):
        raise RuntimeError(f"coordinator of {group}: error {error}")
    reader.take("i")  # the broker's id
    return f"{reader.text()}:{reader.take('i')}"


def batches(address, topic):
    """First offset, last offset and codec of each batch in partition 0."""
    offset, leader = 0, leader_of(address, topic, 0)
    while log := fetch(leader, topic, offset):
        at = 0
        while at + 61 <= len(log):
            base, length = struct.unpack_from(">qi", log, at)
            attributes, last = struct.unpack_from(">hi", log, at + 21)
            yield base, base + last, CODECS[attributes & 7]
            offset, at = base + last + 1, at + 12 + length


def fetch(address, topic, offset):
    """The bytes of partition 0 from the offset on (Fetch, version 4)."""
    place = struct.pack(">iqi", 0, offset, 1 << 20)
    body = struct.pack(">iiiibi", -1, 100, 0, 1 << 20, 0, 1) + text(topic) + struct.pack(">i", 1) + place
    reader = ask(address, FETCH, 4, body)
    reader.take("i")  # throttled for
    assert reader.take("i") == 1
    reader.text()
    assert reader.take("i") == 1
    reader.take("i")  # the partition
    error, _high, _stable = reader.take("h"), reader.take("q"), reader.take("q")
    if error:
        raise RuntimeError(f"fetch of {topic} at {offset}: error {error}")
    reader.array(lambda: (reader.take("q"), reader.take("q")))  # aborted transactions
    length = reader.take("i")
    return reader.data[reader.at:reader.at + max(length, 0)]
