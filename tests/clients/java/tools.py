"""tools.py CLASSPATH CLIENT CASE BOOTSTRAP PREFIX: one case with the tools that Kafka brings along.

They are called by their main classes, as Kafka's own scripts do.
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from cases import Failover, equal, group_of_two, until
from commands import Member, Running, every_codec, main, numbers, run

TOOLS = "org.apache.kafka.tools."
# Short runs: start fast rather than run fast, and stay small.
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", sys.argv[1]]


def command(tool, bootstrap, *arguments):
    name = tool if "." in tool and tool.startswith("kafka.") else TOOLS + tool
    return [*JAVA, name, "--bootstrap-server", bootstrap, *(str(one) for one in arguments)]


def tool(name, bootstrap, *arguments, text=""):
    return run(command(name, bootstrap, *arguments), text)


def create(bootstrap, topic, partitions=1, replicas=1, *more):
    tool("TopicCommand", bootstrap, "--create", "--topic", topic, "--partitions", partitions,
         "--replication-factor", replicas, *more)


def produce(bootstrap, topic, lines, *more):
    tool("ConsoleProducer", bootstrap, "--topic", topic, *more, text="".join(f"{line}\n" for line in lines))


def consume(bootstrap, topic, count, *more):
    return tool("consumer.ConsoleConsumer", bootstrap, "--topic", topic, "--max-messages", count,
                "--timeout-ms", 30_000, *more).splitlines()


def codecs(bootstrap, topic):
    """ConsoleProducer, ConsoleConsumer: what each codec has packed reads back equal."""
    create(bootstrap, topic)
    every_codec(lambda codec, lines: produce(bootstrap, topic, lines, "--compression-codec", codec),
                lambda count: consume(bootstrap, topic, count, "--from-beginning"))


def offsets(bootstrap, topic):
    """ConsoleConsumer, GetOffsetShell: from the beginning, the end, within a batch, at a time."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(7))
    time.sleep(0.1)
    half_past = int(time.time() * 1000)
    produce(bootstrap, topic, range(7, 10))

    def offset_at(time_or_name):
        line = tool("GetOffsetShell", bootstrap, "--topic", topic, "--time", time_or_name)
        return int(line.strip().rsplit(":", 1)[1])

    equal(offset_at("earliest"), 0, "the earliest offset")
    equal(offset_at("latest"), 10, "the latest offset")
    equal(offset_at(half_past), 7, "by timestamp")
    from_start = consume(bootstrap, topic, 1, "--partition", 0, "--offset", "earliest")
    equal(numbers(from_start), [0], "at the beginning")
    found = consume(bootstrap, topic, 5, "--partition", 0, "--offset", 5)
    equal(numbers(found), list(range(5, 10)), "in the middle of a batch")
    late = []
    at_end = Running(command("consumer.ConsoleConsumer", bootstrap, "--topic", topic, "--max-messages", 1,
                             "--partition", 0, "--offset", "latest"), late.append)
    time.sleep(5)
    equal(late, [], "at the end, before there is more")
    produce(bootstrap, topic, [10])
    equal(at_end.ended(), 0, "exit code")
    equal(numbers(late), [10], "at the end")


def fields(bootstrap, topic):
    """Headers, and keys and values that are null or empty, come back as they were."""
    create(bootstrap, topic)
    records = ["a:1,b:two,a:2,empty:\tkey\tvalue", "NULL\tNULL\tnull key", "NULL\tnull value\tNULL",
               "NULL\tempty value\t", "NULL\t\tempty key"]
    properties = ["parse.key=true", "parse.headers=true", "null.marker=NULL"]
    produce(bootstrap, topic, records, *(word for one in properties for word in ("--property", one)))
    properties = ["print.key=true", "print.headers=true", "null.literal=NULL", "headers.separator=,"]
    found = consume(bootstrap, topic, 5, "--from-beginning",
                    *(word for one in properties for word in ("--property", one)))
    wanted = [re.sub("^NULL\t", "NO_HEADERS\t", record) for record in records]
    equal(found, wanted, "fields")


def large(bootstrap, topic):
    """ProducerPerformance, ConsumerPerformance: ten records of 900 KB."""
    create(bootstrap, topic)
    sent = run([*JAVA, TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "10",
                "--record-size", "900000", "--throughput", "-1",
                "--producer-props", f"bootstrap.servers={bootstrap}", "acks=all"])
    equal(sent.splitlines()[-1].startswith("10 records sent"), True, "ten are sent")
    found = tool("ConsumerPerformance", bootstrap, "--topic", topic, "--messages", 10)
    equal(found.splitlines()[-1].split(", ")[4], "10", "ten are read")


def verify(lines):
    """The values of the records that a VerifiableConsumer has told of."""
    events = [json.loads(line) for line in lines]
    return [event["value"] for event in events if event["name"] == "record_data"]


def produce_verifiably(bootstrap, topic, count, *more):
    """Produces the numbers below `count`, with idempotence, as is Kafka's default."""
    sent = tool("VerifiableProducer", bootstrap, "--topic", topic, "--max-messages", count, *more)
    done = [event for event in map(json.loads, sent.splitlines()) if event["name"] == "producer_send_success"]
    equal(len(done), count, "acknowledged")


def idempotence(bootstrap, topic):
    """VerifiableProducer, VerifiableConsumer: 10 000 records, all, in order, none twice."""
    create(bootstrap, topic)
    produce_verifiably(bootstrap, topic, 10_000)
    read = tool("VerifiableConsumer", bootstrap, "--topic", topic, "--group-id", f"{topic}-group",
                "--max-messages", 10_000, "--verbose")
    equal(numbers(verify(read.splitlines())), list(range(10_000)), "10 000 records")


def heard(member, line):
    """What a VerifiableConsumer says: records, and the partitions that it is given."""
    event = json.loads(line)
    places = {one["partition"] for one in event.get("partitions", [])}
    if event["name"] == "partitions_assigned":
        member.partitions |= places
    elif event["name"] == "partitions_revoked":
        member.partitions -= places
    elif event["name"] == "record_data":
        member.records.append(int(event["value"]))


def group(bootstrap, topic):
    """VerifiableConsumer: two members share 4 partitions; one comes, one goes, and every record is
    read once."""
    create(bootstrap, topic, 4)
    group_of_two(
        lambda some: produce(bootstrap, topic, [f"{n}\t{n}" for n in some], "--property", "parse.key=true"),
        lambda _name: Member(command("VerifiableConsumer", bootstrap, "--topic", topic, "--group-id",
                                     f"{topic}-group", "--verbose"), heard),
        settle=1)


def committed(bootstrap, topic, *more):
    """The group's offset of partition 0, as ConsumerGroupCommand prints it."""
    printed = tool("consumer.group.ConsumerGroupCommand", bootstrap, "--group", f"{topic}-group", *more)
    rows = [line.split() for line in printed.splitlines()]
    return next(int(row[3]) for row in rows if row[1:3] == [topic, "0"])


def commit(bootstrap, topic):
    """ConsoleConsumer, ConsumerGroupCommand: a group that stopped goes on where it had committed."""
    create(bootstrap, topic)
    produce(bootstrap, topic, range(10))
    member = ["--group", f"{topic}-group", "--from-beginning"]
    equal(numbers(consume(bootstrap, topic, 5, *member)), list(range(5)), "one half")
    equal(committed(bootstrap, topic, "--describe"), 5, "committed")
    equal(numbers(consume(bootstrap, topic, 5, *member)), list(range(5, 10)), "the other half")
    tool("consumer.group.ConsumerGroupCommand", bootstrap, "--group", f"{topic}-group", "--topic", topic,
         "--reset-offsets", "--shift-by", -3, "--execute")
    equal(committed(bootstrap, topic, "--describe"), 7, "after the group was reset")


def admin(bootstrap, topic):
    """TopicCommand, ConfigCommand, DeleteRecordsCommand, ConsumerGroupCommand: a topic and a group
    from the cradle to the grave."""
    group, groups = f"{topic}-group", "consumer.group.ConsumerGroupCommand"
    create(bootstrap, topic, 2, 1, "--config", "retention.ms=3600000")
    described = tool("TopicCommand", bootstrap, "--describe", "--topic", topic)
    equal(bool(re.search(r"PartitionCount: 2\b.*retention\.ms=3600000", described)), True, "described")
    tool("TopicCommand", bootstrap, "--alter", "--topic", topic, "--partitions", 4)
    described = tool("TopicCommand", bootstrap, "--describe", "--topic", topic)
    equal("PartitionCount: 4" in described, True, "4 partitions")
    entity = ["--entity-type", "topics", "--entity-name", topic]
    tool("kafka.admin.ConfigCommand", bootstrap, "--alter", *entity, "--add-config", "retention.ms=7200000")
    described = tool("kafka.admin.ConfigCommand", bootstrap, "--describe", *entity)
    equal("retention.ms=7200000" in described, True, "retention.ms as altered")

    produce_verifiably(bootstrap, topic, 100, "--repeating-keys", 1)
    [place, end] = next(
        line.rsplit(":", 2)[1:] for line in tool("GetOffsetShell", bootstrap, "--topic", topic).splitlines()
        if not line.endswith(":0"))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        where = {"topic": topic, "partition": int(place), "offset": 40}
        json.dump({"version": 1, "partitions": [where]}, file)
        file.flush()
        tool("DeleteRecordsCommand", bootstrap, "--offset-json-file", file.name)
    start = tool("GetOffsetShell", bootstrap, "--topic-partitions", f"{topic}:{place}", "--time", "earliest")
    equal((start.strip().rsplit(":", 1)[1], end), ("40", "100"), "what is left")

    equal(len(consume(bootstrap, topic, 60, "--group", group, "--from-beginning")), 60, "records read")

    def listed():
        return group in tool(groups, bootstrap, "--list").split()

    equal(listed(), True, "the group is listed")
    described = tool(groups, bootstrap, "--describe", "--group", group, "--state")
    equal("Empty" in described, True, "the group's state")
    tool(groups, bootstrap, "--delete", "--group", group)
    equal(listed(), False, "the group is listed, after it was deleted")
    tool("TopicCommand", bootstrap, "--delete", "--topic", topic)
    until(lambda: topic not in tool("TopicCommand", bootstrap, "--list").split(), "the topic is gone")


def failover(bootstrap, topic):
    """VerifiableProducer: the leader is killed under load: every acknowledged record is read back."""
    create(bootstrap, topic, 1, 3)
    pace = Failover(topic)

    def acknowledged(line):
        event = json.loads(line)
        if event["name"] == "producer_send_success":
            pace.acked.add(int(event["value"]))

    load = Running(command("VerifiableProducer", bootstrap, "--topic", topic, "--throughput", 500,
                           "--acks", -1), acknowledged)
    while pace.going_on():
        time.sleep(0.02)
    before = len(pace.acked)
    until(lambda: len(pace.acked) > before, "records are acknowledged at the end")
    load.stop()
    end = int(tool("GetOffsetShell", bootstrap, "--topic", topic).strip().rsplit(":", 1)[1])
    pace.verify(numbers(consume(bootstrap, topic, end, "--from-beginning")))


main(globals(), *sys.argv[3:])
