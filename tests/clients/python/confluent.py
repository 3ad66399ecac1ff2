"""confluent-kafka: librdkafka under Python."""

import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING, OFFSET_END, ConsumerGroupTopicPartitions, Consumer, Producer, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType,
)

from cases import CODECS, FIELDS, LARGE, Failover, Member, equal, group_of_two, packable, until


def admin_of(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def done(futures):
    """The results of an admin call, by name; raises the first error."""
    return {name: future.result(30) for name, future in futures.items()}


def create(bootstrap, topic, partitions=1, replicas=1, **config):
    config = {name.replace("_", "."): value for name, value in config.items()}
    client = admin_of(bootstrap)
    done(client.create_topics([NewTopic(topic, partitions, replicas, config=config)]))
    until(lambda: topic in client.list_topics(timeout=10).topics, f"{topic} is there")


def producer_of(bootstrap, **config):
    config = {name.replace("_", "."): value for name, value in config.items()}
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, **config})


def produce(producer, topic, records):
    """Sends records (arguments of Producer.produce) and waits until each is acknowledged."""
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append(message.offset())

    for record in records:
        producer.produce(topic, on_delivery=delivered, **record)
    equal(producer.flush(60), 0, "records left over by flush")
    equal(errors, [], "errors of delivery")
    return offsets


def consumer_of(bootstrap, group="unused", **config):
    config = {name.replace("_", "."): value for name, value in config.items()}
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                     "auto.offset.reset": "earliest", **config})


def take(consumer, count, seconds=30):
    """The next `count` messages."""
    messages, end = [], time.monotonic() + seconds
    while len(messages) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(messages)} of {count} records within {seconds} s")
        message = consumer.poll(0.2)
        if message is not None:
            if message.error():
                raise RuntimeError(message.error())
            messages.append(message)
    return messages


def read_all(bootstrap, topic):
    """All messages of partition 0."""
    consumer = consumer_of(bootstrap)
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    messages = take(consumer, end)
    consumer.close()
    return messages


def codecs(bootstrap, topic):
    """What each codec has packed reads back equal, out of one log."""
    create(bootstrap, topic)
    sent = []
    for codec in CODECS:
        values = [packable(codec, number) for number in range(20)]
        producer = producer_of(bootstrap, compression_type=codec)
        produce(producer, topic, [{"value": value, "partition": 0} for value in values])
        sent += values
    equal([message.value() for message in read_all(bootstrap, topic)], sent, "records of all codecs")


def offsets(bootstrap, topic):
    """A consumer begins wherever it is told to: at both ends, within a batch, at a time."""
    create(bootstrap, topic)
    start = int(time.time() * 1000) - 60_000
    batch = [{"value": str(n), "timestamp": start + n * 1000, "partition": 0} for n in range(10)]
    producer = producer_of(bootstrap, linger_ms=500)
    produce(producer, topic, batch)
    consumer = consumer_of(bootstrap)

    def first_from(offset):
        consumer.assign([TopicPartition(topic, 0, offset)])
        return take(consumer, 1)[0].value()

    equal(first_from(OFFSET_BEGINNING), b"0", "at the beginning")
    equal(first_from(5), b"5", "in the middle of a batch")
    [at] = consumer.offsets_for_times([TopicPartition(topic, 0, start + 6500)], timeout=20)
    equal(first_from(at.offset), b"7", "by timestamp")
    consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
    equal(consumer.poll(2), None, "at the end, before there is more")
    produce(producer, topic, [{"value": "late", "partition": 0}])
    equal(take(consumer, 1)[0].value(), b"late", "at the end")
    consumer.close()


def fields(bootstrap, topic):
    """Headers, and keys and values that are null or empty, come back as they were."""
    create(bootstrap, topic)
    records = [{"key": key, "value": value, "headers": headers, "partition": 0}
               for key, value, headers in FIELDS]
    produce(producer_of(bootstrap), topic, records)
    found = [(m.key(), m.value(), m.headers() or []) for m in read_all(bootstrap, topic)]
    equal(found, FIELDS, "fields")


def large(bootstrap, topic):
    """A record of 900 KB."""
    create(bootstrap, topic)
    produce(producer_of(bootstrap), topic, [{"value": LARGE, "partition": 0}])
    equal([message.value() for message in read_all(bootstrap, topic)], [LARGE], "the large record")


def idempotence(bootstrap, topic):
    """10 000 records of an idempotent producer: all, in order, none twice."""
    create(bootstrap, topic)
    producer = producer_of(bootstrap, enable_idempotence=True, linger_ms=1)
    produce(producer, topic, [{"value": str(n), "partition": 0} for n in range(10_000)])
    found = [int(message.value()) for message in read_all(bootstrap, topic)]
    equal(found, list(range(10_000)), "10 000 records")


def group(bootstrap, topic):
    """Two members share 4 partitions; one comes, one goes, and every record is read once."""
    create(bootstrap, topic, partitions=4)
    producer = producer_of(bootstrap)

    def send(numbers):
        produce(producer, topic, [{"value": str(n), "partition": n % 4} for n in numbers])

    def step(member):
        consumer = consumer_of(bootstrap, f"{topic}-group", session_timeout_ms=10_000)
        consumer.subscribe([topic])
        while not member.leaving:
            messages = consumer.consume(100, 0.1)
            member.records += [int(message.value()) for message in messages]
            if messages:
                consumer.commit(asynchronous=False)
            member.partitions = {tp.partition for tp in consumer.assignment()}
        consumer.close()

    group_of_two(send, lambda name: Member(name, step))


def commit(bootstrap, topic):
    """A group that stopped goes on where it had committed, and finds the note it left there."""
    create(bootstrap, topic)
    produce(producer_of(bootstrap), topic, [{"value": str(n), "partition": 0} for n in range(10)])
    consumer = consumer_of(bootstrap, f"{topic}-group")
    consumer.subscribe([topic])
    take(consumer, 5)
    place = TopicPartition(topic, 0, 5, "half")
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()
    consumer = consumer_of(bootstrap, f"{topic}-group")
    [found] = consumer.committed([TopicPartition(topic, 0)], timeout=20)
    equal((found.offset, found.metadata), (5, "half"), "committed")
    consumer.subscribe([topic])
    equal([m.value() for m in take(consumer, 5)], [b"5", b"6", b"7", b"8", b"9"], "the other half")
    consumer.close()


def admin(bootstrap, topic):
    """A topic and a group from the cradle to the grave, by the admin client."""
    client = admin_of(bootstrap)
    create(bootstrap, topic, partitions=2, retention_ms="3600000")
    equal(len(client.list_topics(topic, timeout=20).topics[topic].partitions), 2, "partitions")
    done(client.create_partitions([NewPartitions(topic, 4)]))
    until(lambda: len(client.list_topics(topic, timeout=20).topics[topic].partitions) == 4, "4 now")

    resource = ConfigResource(ResourceType.TOPIC, topic)
    [config] = done(client.describe_configs([resource])).values()
    equal(config["retention.ms"].value, "3600000", "retention.ms as created")
    entry = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    done(client.incremental_alter_configs([change]))
    until(lambda: done(client.describe_configs([resource]))[resource]["retention.ms"].value
          == "7200000", "retention.ms as altered")

    produce(producer_of(bootstrap), topic, [{"value": str(n), "partition": 0} for n in range(10)])
    done(client.delete_records([TopicPartition(topic, 0, 4)]))
    consumer = consumer_of(bootstrap, f"{topic}-group")
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20), (4, 10), "what is left")

    consumer.subscribe([topic])
    take(consumer, 6)
    consumer.commit(asynchronous=False)
    group = f"{topic}-group"
    listed = client.list_consumer_groups().result(30).valid
    equal(group in [one.group_id for one in listed], True, "the group is listed")
    described = done(client.describe_consumer_groups([group]))[group]
    equal((described.state.name, len(described.members)), ("STABLE", 1), "the group's state")
    consumer.close()
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
    found = done(client.list_consumer_group_offsets([asked]))[group].topic_partitions[0]
    equal(found.offset, 10, "the group's offset")
    done(client.delete_consumer_groups([group]))
    listed = client.list_consumer_groups().result(30).valid
    equal(group in [one.group_id for one in listed], False, "the group is listed, after it was deleted")

    done(client.delete_topics([topic]))
    until(lambda: topic not in client.list_topics(timeout=20).topics, "the topic is gone")


def failover(bootstrap, topic):
    """The leader is killed under load: every acknowledged record is read back."""
    create(bootstrap, topic, replicas=3)
    producer, pace, number = producer_of(bootstrap, acks="all", linger_ms=5), Failover(topic), 0

    def delivered(error, message):
        if not error:
            pace.acked.add(int(message.value()))

    while pace.going_on():
        producer.produce(topic, str(number), partition=0, on_delivery=delivered)
        number += 1
        producer.poll(0.001)
    equal(producer.flush(30), 0, "records left over by flush")
    produce(producer, topic, [{"value": str(number), "partition": 0}])
    pace.acked.add(number)
    pace.verify([int(message.value()) for message in read_all(bootstrap, topic)])


def hex_of(data):
    return "-" if data is None else data.hex()


def bytes_of(word):
    return None if word == "-" else bytes.fromhex(word)


def together(bootstrap, topic):
    """Sends the records that stdin has, says where each is, and prints what the topic has."""
    producers, places = {}, []
    for number, line in enumerate(iter(sys.stdin.readline, "\n")):
        codec, timestamp, key, value, headers = line.rstrip("\n").split("\t")
        if codec not in producers:  # with the partitioner that Java's client and mk's have
            producers[codec] = producer_of(bootstrap, compression_type=codec, partitioner="murmur2_random")
        pairs = [header.split("=") for header in headers.split(",") if header]
        places.append(None)

        def delivered(error, message, number=number):
            places[number] = error or f"{message.partition()}\t{message.offset()}"

        producers[codec].produce(
            topic, key=bytes_of(key), value=bytes_of(value), timestamp=int(timestamp),
            headers=[(name, bytes_of(word)) for name, word in pairs], on_delivery=delivered)
    for producer in producers.values():
        producer.flush(60)
    print(*places, "sent", sep="\n", flush=True)

    consumer = consumer_of(bootstrap)
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    for one in take(consumer, int(sys.stdin.readline())):
        headers = ",".join(f"{name}={hex_of(value)}" for name, value in one.headers() or [])
        print(one.partition(), one.offset(), one.timestamp()[1], hex_of(one.key()), hex_of(one.value()),
              headers, sep="\t")
    consumer.close()
