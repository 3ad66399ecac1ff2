"""kafka-python 3: written in Python, idempotent by default."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource

from cases import CODECS, FIELDS, LARGE, Failover, Member, equal, group_of_two, packable, until


def admin_of(bootstrap):
    return KafkaAdminClient(bootstrap_servers=bootstrap.split(","))


def create(bootstrap, topic, partitions=1, replicas=1, **configs):
    new = {topic: {"num_partitions": partitions, "replication_factor": replicas, "configs": configs}}
    client = admin_of(bootstrap)
    client.create_topics(new, wait_for_metadata=True)
    client.close()


def producer_of(bootstrap, **config):
    return KafkaProducer(bootstrap_servers=bootstrap.split(","), linger_ms=50, **config)


def produce(producer, topic, records):
    """Sends records (arguments of KafkaProducer.send), and waits until each is acknowledged."""
    futures = [producer.send(topic, **record) for record in records]
    producer.flush(60)
    return [future.get(10).offset for future in futures]


def numbered(numbers, partitions=1):
    return [{"value": str(n).encode(), "partition": n % partitions} for n in numbers]


def consumer_of(bootstrap, *topics, **config):
    return KafkaConsumer(*topics, bootstrap_servers=bootstrap.split(","), enable_auto_commit=False,
                         auto_offset_reset="earliest", **config)


def take(consumer, count, seconds=30):
    """The next `count` records."""
    records, end = [], time.monotonic() + seconds
    while len(records) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(records)} of {count} records within {seconds} s")
        for polled in consumer.poll(200, max_records=count - len(records)).values():
            records += polled
    return records


def read_all(bootstrap, topic):
    """All records of partition 0."""
    consumer, place = consumer_of(bootstrap), TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    records = take(consumer, consumer.end_offsets([place])[place])
    consumer.close()
    return records


def codecs(bootstrap, topic):
    """What each codec has packed reads back equal, out of one log."""
    create(bootstrap, topic)
    sent = []
    for codec in CODECS:
        values = [packable(codec, number) for number in range(20)]
        producer = producer_of(bootstrap, compression_type=None if codec == "none" else codec)
        produce(producer, topic, [{"value": value, "partition": 0} for value in values])
        producer.close()
        sent += values
    equal([record.value for record in read_all(bootstrap, topic)], sent, "records of all codecs")


def offsets(bootstrap, topic):
    """A consumer begins wherever it is told to: at both ends, within a batch, at a time."""
    create(bootstrap, topic)
    start, place = int(time.time() * 1000) - 60_000, TopicPartition(topic, 0)
    producer = producer_of(bootstrap)
    batch = [{**record, "timestamp_ms": start + n * 1000} for n, record in enumerate(numbered(range(10)))]
    produce(producer, topic, batch)
    consumer = consumer_of(bootstrap)
    consumer.assign([place])

    def first_from(offset):
        consumer.seek(place, offset)
        return take(consumer, 1)[0].value

    consumer.seek_to_beginning(place)
    equal(take(consumer, 1)[0].value, b"0", "at the beginning")
    equal(first_from(5), b"5", "in the middle of a batch")
    at = consumer.offsets_for_times({place: start + 6500})[place]
    equal(first_from(at.offset), b"7", "by timestamp")
    consumer.seek_to_end(place)
    equal(consumer.poll(2000), {}, "at the end, before there is more")
    produce(producer, topic, [{"value": b"late", "partition": 0}])
    equal(take(consumer, 1)[0].value, b"late", "at the end")
    consumer.close()


def fields(bootstrap, topic):
    """Headers, and keys and values that are null or empty, come back as they were."""
    create(bootstrap, topic)
    records = [{"key": key, "value": value, "headers": headers, "partition": 0}
               for key, value, headers in FIELDS]
    produce(producer_of(bootstrap), topic, records)
    found = [(r.key, r.value, list(r.headers)) for r in read_all(bootstrap, topic)]
    equal(found, FIELDS, "fields")


def large(bootstrap, topic):
    """A record of 900 KB."""
    create(bootstrap, topic)
    produce(producer_of(bootstrap), topic, [{"value": LARGE, "partition": 0}])
    equal([record.value for record in read_all(bootstrap, topic)], [LARGE], "the large record")


def idempotence(bootstrap, topic):
    """10 000 records of an idempotent producer: all, in order, none twice."""
    create(bootstrap, topic)
    producer = producer_of(bootstrap, enable_idempotence=True)
    produce(producer, topic, numbered(range(10_000)))
    found = [int(record.value) for record in read_all(bootstrap, topic)]
    equal(found, list(range(10_000)), "10 000 records")


def group(bootstrap, topic):
    """Two members share 4 partitions; one comes, one goes, and every record is read once."""
    create(bootstrap, topic, partitions=4)
    producer = producer_of(bootstrap)

    def step(member):
        consumer = consumer_of(bootstrap, topic, group_id=f"{topic}-group")
        while not member.leaving:
            records = [r for polled in consumer.poll(200).values() for r in polled]
            if records:
                consumer.commit()
            member.records += [int(record.value) for record in records]
            member.partitions = {place.partition for place in consumer.assignment()}
        consumer.close()

    group_of_two(lambda numbers: produce(producer, topic, numbered(numbers, 4)),
                 lambda name: Member(name, step))


def commit(bootstrap, topic):
    """A group that stopped goes on where it had committed, and finds the note it left there."""
    create(bootstrap, topic)
    produce(producer_of(bootstrap), topic, numbered(range(10)))
    place = TopicPartition(topic, 0)
    consumer = consumer_of(bootstrap, topic, group_id=f"{topic}-group")
    take(consumer, 5)
    consumer.commit({place: OffsetAndMetadata(5, "half", -1)})
    consumer.close()
    consumer = consumer_of(bootstrap, topic, group_id=f"{topic}-group")
    found = consumer.committed(place, metadata=True)
    equal((found.offset, found.metadata), (5, "half"), "committed")
    equal([int(r.value) for r in take(consumer, 5)], list(range(5, 10)), "the other half")
    consumer.close()


def admin(bootstrap, topic):
    """A topic and a group from the cradle to the grave, by the admin client."""
    client, place, group = admin_of(bootstrap), TopicPartition(topic, 0), f"{topic}-group"
    create(bootstrap, topic, partitions=2, **{"retention.ms": "3600000"})

    def partitions():
        return len(client.describe_topics([topic])[0]["partitions"])

    def retention():
        found = client.describe_configs([ConfigResource("topic", topic)], config_filter="all")
        return found["topic"][topic]["retention.ms"]["value"]

    equal(partitions(), 2, "partitions")
    client.create_partitions({topic: 4})
    until(lambda: partitions() == 4, "4 now")
    equal(retention(), "3600000", "retention.ms as created")
    client.alter_configs([ConfigResource("topic", topic, {"retention.ms": "7200000"})])
    until(lambda: retention() == "7200000", "retention.ms as altered")

    produce(producer_of(bootstrap), topic, numbered(range(10)))
    client.delete_records({place: 4})
    consumer = consumer_of(bootstrap, topic, group_id=group)
    equal(consumer.beginning_offsets([place])[place], 4, "what is left")

    take(consumer, 6)
    consumer.commit()
    equal(group in [one["group_id"] for one in client.list_groups()], True, "the group is listed")
    described = client.describe_groups([group])[group]
    state = described["group_state"], len(described["members"])
    equal(state, ("Stable", 1), "the group's state")
    consumer.close()
    equal(client.list_group_offsets({group: [place]})[group][place].offset, 10, "the group's offset")
    client.delete_groups([group])
    listed = [one["group_id"] for one in client.list_groups()]
    equal(group in listed, False, "the group is listed, after it was deleted")

    client.delete_topics([topic])
    until(lambda: topic not in client.list_topics(), "the topic is gone")
    client.close()


def failover(bootstrap, topic):
    """The leader is killed under load: every acknowledged record is read back."""
    create(bootstrap, topic, replicas=3)
    producer, pace, number = producer_of(bootstrap, acks="all"), Failover(topic), 0
    while pace.going_on():
        future = producer.send(topic, partition=0, value=str(number).encode())
        future.add_callback(lambda _, n=number: pace.acked.add(n))
        number += 1
        time.sleep(0.001)
    producer.flush(30)
    produce(producer, topic, [{"value": str(number).encode(), "partition": 0}])
    pace.acked.add(number)
    pace.verify([int(record.value) for record in read_all(bootstrap, topic)])
