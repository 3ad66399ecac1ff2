"""aiokafka: written in Python, on asyncio. A case is a coroutine, run by a thread's own loop."""

import asyncio
import contextlib
import functools
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import OffsetAndMetadata

from cases import (
    CODECS, FIELDS, LARGE, Failover, Member, equal, group_of_two, packable, say,
)


def case(coroutine):
    """A case that can be called, out of a coroutine."""
    @functools.wraps(coroutine)
    def run(bootstrap, topic):
        asyncio.run(coroutine(bootstrap, topic))
    return run


async def eventually(done, what):
    for _ in range(200):
        if await done():
            return say(what)
        await asyncio.sleep(0.1)
    raise TimeoutError(what)


def succeeded(response):
    """Checks the errors of an answer to an admin request, which the client hands out unchecked."""
    for name in ("topic_errors", "topic_error_codes", "topic_partition_errors", "results"):
        for result in getattr(response, name, []):
            equal(result[1], 0, f"error code of {result[0]}")
    return response


@contextlib.asynccontextmanager
async def admin_of(bootstrap):
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(bootstrap, topic, partitions=1, replicas=1, configs=None):
    async with admin_of(bootstrap) as client:
        new = NewTopic(topic, partitions, replicas, topic_configs=configs or {})
        succeeded(await client.create_topics([new]))

        async def there():
            [found] = await client.describe_topics([topic])
            return found["error_code"] == 0 and all(p["leader"] >= 0 for p in found["partitions"])

        await eventually(there, f"{topic} is there")


def producer_of(bootstrap, **config):
    """What it has sent can be read at once: with acks=1, which is its default, it may be seen a little later."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, acks="all", **config)


async def produce(bootstrap, topic, records, **config):
    """Sends records (arguments of AIOKafkaProducer.send), and waits until each is acknowledged."""
    async with producer_of(bootstrap, **config) as producer:
        futures = [await producer.send(topic, **record) for record in records]
        await asyncio.gather(*futures)


def numbered(numbers, partitions=1):
    return [{"value": str(n).encode(), "partition": n % partitions} for n in numbers]


def consumer_of(bootstrap, *topics, **config):
    return AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, enable_auto_commit=False,
                            auto_offset_reset="earliest", **config)


async def take(consumer, count):
    """The next `count` records."""
    async with asyncio.timeout(30):
        return [await consumer.getone() for _ in range(count)]


async def read_all(bootstrap, topic):
    """All records of partition 0."""
    async with consumer_of(bootstrap) as consumer:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        return await take(consumer, (await consumer.end_offsets([place]))[place])


@case
async def codecs(bootstrap, topic):
    """What each codec has packed reads back equal, out of one log."""
    await create(bootstrap, topic)
    sent = []
    for codec in CODECS:
        values = [packable(codec, number) for number in range(20)]
        records = [{"value": value, "partition": 0} for value in values]
        compression = None if codec == "none" else codec
        await produce(bootstrap, topic, records, compression_type=compression)
        sent += values
    found = [record.value for record in await read_all(bootstrap, topic)]
    equal(found, sent, "records of all codecs")


@case
async def offsets(bootstrap, topic):
    """A consumer begins wherever it is told to: at both ends, within a batch, at a time."""
    await create(bootstrap, topic)
    start, place = int(time.time() * 1000) - 60_000, TopicPartition(topic, 0)
    batch = [{**record, "timestamp_ms": start + n * 1000} for n, record in enumerate(numbered(range(10)))]
    await produce(bootstrap, topic, batch)
    async with consumer_of(bootstrap) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        equal((await take(consumer, 1))[0].value, b"0", "at the beginning")
        consumer.seek(place, 5)
        equal((await take(consumer, 1))[0].value, b"5", "in the middle of a batch")
        at = (await consumer.offsets_for_times({place: start + 6500}))[place]
        consumer.seek(place, at.offset)
        equal((await take(consumer, 1))[0].value, b"7", "by timestamp")
        await consumer.seek_to_end(place)
        equal(await consumer.getmany(timeout_ms=2000), {}, "at the end, before there is more")
        await produce(bootstrap, topic, [{"value": b"late", "partition": 0}])
        equal((await take(consumer, 1))[0].value, b"late", "at the end")


@case
async def fields(bootstrap, topic):
    """Headers, and keys and values that are null or empty, come back as they were."""
    await create(bootstrap, topic)
    records = [{"key": key, "value": value, "headers": headers, "partition": 0}
               for key, value, headers in FIELDS]
    await produce(bootstrap, topic, records)
    found = [(r.key, r.value, list(r.headers)) for r in await read_all(bootstrap, topic)]
    equal(found, FIELDS, "fields")


@case
async def large(bootstrap, topic):
    """A record of 900 KB."""
    await create(bootstrap, topic)
    await produce(bootstrap, topic, [{"value": LARGE, "partition": 0}])
    equal([r.value for r in await read_all(bootstrap, topic)], [LARGE], "the large record")


@case
async def idempotence(bootstrap, topic):
    """10 000 records of an idempotent producer: all, in order, none twice."""
    await create(bootstrap, topic)
    await produce(bootstrap, topic, numbered(range(10_000)), enable_idempotence=True)
    found = [int(record.value) for record in await read_all(bootstrap, topic)]
    equal(found, list(range(10_000)), "10 000 records")


def group(bootstrap, topic):
    """Two members share 4 partitions; one comes, one goes, and every record is read once."""
    asyncio.run(create(bootstrap, topic, partitions=4))

    async def consume(member):
        async with consumer_of(bootstrap, topic, group_id=f"{topic}-group") as consumer:
            while not member.leaving:
                polled = await consumer.getmany(timeout_ms=200)
                records = [record for some in polled.values() for record in some]
                if records:
                    await consumer.commit()
                member.records += [int(record.value) for record in records]
                member.partitions = {place.partition for place in consumer.assignment()}

    group_of_two(lambda numbers: asyncio.run(produce(bootstrap, topic, numbered(numbers, 4))),
                 lambda name: Member(name, lambda member: asyncio.run(consume(member))))


@case
async def commit(bootstrap, topic):
    """A group that stopped goes on where it had committed, and finds the note it left there."""
    await create(bootstrap, topic)
    await produce(bootstrap, topic, numbered(range(10)))
    place = TopicPartition(topic, 0)
    async with consumer_of(bootstrap, topic, group_id=f"{topic}-group") as consumer:
        await take(consumer, 5)
        await consumer.commit({place: (5, "half")})
    async with admin_of(bootstrap) as client:
        found = await client.list_consumer_group_offsets(f"{topic}-group")
        equal(found[place], OffsetAndMetadata(5, "half"), "committed")
    async with consumer_of(bootstrap, topic, group_id=f"{topic}-group") as consumer:
        equal(await consumer.committed(place), 5, "committed, as the consumer has it")
        found = [int(record.value) for record in await take(consumer, 5)]
        equal(found, list(range(5, 10)), "the other half")


@case
async def admin(bootstrap, topic):
    """A topic and a group from the cradle to the grave, by the admin client (which cannot delete
    groups)."""
    await create(bootstrap, topic, partitions=2, configs={"retention.ms": "3600000"})
    place, group = TopicPartition(topic, 0), f"{topic}-group"
    async with admin_of(bootstrap) as client:
        async def partitions():
            return len((await client.describe_topics([topic]))[0]["partitions"])

        async def has_four():
            return await partitions() == 4

        equal(await partitions(), 2, "partitions")
        succeeded(await client.create_partitions({topic: NewPartitions(4)}))
        await eventually(has_four, "4 now")

        async def retention():
            [response] = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            [resource] = response.resources
            equal(resource[0], 0, "error code of describe configs")
            return next(entry[1] for entry in resource[4] if entry[0] == "retention.ms")

        async def altered():
            return await retention() == "7200000"

        equal(await retention(), "3600000", "retention.ms as created")
        change = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "7200000"})
        [response] = await client.alter_configs([change])
        equal(response.resources[0][0], 0, "error code of alter configs")
        await eventually(altered, "retention.ms as altered")

        await produce(bootstrap, topic, numbered(range(10)))
        await client.delete_records({place: RecordsToDelete(4)})
        async with consumer_of(bootstrap, topic, group_id=group) as consumer:
            equal((await consumer.beginning_offsets([place]))[place], 4, "what is left")
            await take(consumer, 6)
            await consumer.commit()
            listed = [one[0] for one in await client.list_consumer_groups()]
            equal(group in listed, True, "the group is listed")
            [response] = await client.describe_consumer_groups([group])
            described = response.groups[0]
            state = described[0], described[2], len(described[5])
            equal(state, (0, "Stable", 1), "the group's error code, state and members")
        found = await client.list_consumer_group_offsets(group)
        equal(found[place].offset, 10, "the group's offset")

        async def gone():
            return topic not in await client.list_topics()

        succeeded(await client.delete_topics([topic]))
        await eventually(gone, "the topic is gone")


@case
async def failover(bootstrap, topic):
    """The leader is killed under load: every acknowledged record is read back."""
    await create(bootstrap, topic, replicas=3)
    pace, number, sent = Failover(topic), 0, []
    # Without idempotence a batch whose answer is lost would be sent again, and be there twice; it
    # would be there all the same, but this is how the client is used where records count.
    async with producer_of(bootstrap, enable_idempotence=True) as producer:
        async def send(n):
            future = await producer.send(topic, str(n).encode(), partition=0)

            async def acknowledged():
                await future
                pace.acked.add(n)
            sent.append(asyncio.create_task(acknowledged()))

        while pace.going_on():
            await send(number)
            number += 1
            await asyncio.sleep(0.001)
        async with asyncio.timeout(30):
            await send(number)
            await asyncio.gather(*sent)
    pace.verify([int(record.value) for record in await read_all(bootstrap, topic)])
