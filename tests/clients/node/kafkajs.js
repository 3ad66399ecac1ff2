'use strict'
// kafkajs: written in JavaScript. It brings gzip; the other codecs are registered, as its pages say.

const {
  AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel,
} = require('kafkajs')
const SnappyCodec = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')
const {
  FIELDS, beginnings, connected, equal, everyCodec, groupOfTwo, largeRecord, numbered, numbers, numbersOf,
  underLoad, until, verify,
} = require('./cases')

CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
const zstd = (use) => new Promise((resolve) => {
  ZstdCodec.run((codec) => resolve(Buffer.from(use(new codec.Simple()))))
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd((simple) => simple.compress(encoder.buffer)),
  decompress: (buffer) => zstd((simple) => simple.decompress(buffer)),
})
const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const kafkaOf = (bootstrap) => new Kafka({
  clientId: 'kafkajs',
  brokers: bootstrap.split(','),
  logLevel: logLevel.WARN,
  retry: { retries: 15, maxRetryTime: 2000 }, // by default 5 tries, in which nobody is elected yet
})

const withAdmin = (bootstrap, use) => connected(kafkaOf(bootstrap).admin(), use)

const create = (bootstrap, topic, more = {}) =>
  withAdmin(bootstrap, (admin) => admin.createTopics({
    topics: [{ topic, numPartitions: 1, replicationFactor: 1, ...more }],
    waitForLeaders: true,
  }))

function produce(bootstrap, topic, messages, codec = 'none', config = {}) {
  const partitioner = Partitioners.DefaultPartitioner
  const producer = kafkaOf(bootstrap).producer({ createPartitioner: partitioner, ...config })
  return connected(producer, () => producer.send({ topic, messages, acks: -1, compression: TYPES[codec] }))
}

let readers = 0

/** Takes `count` messages of partition 0; kafkajs reads as a member of a group, and in no other way. */
async function take(bootstrap, topic, count, offset) {
  const consumer = kafkaOf(bootstrap).consumer({ groupId: `${topic}-reader-${readers++}`, maxWaitTimeInMs: 200 })
  return connected(consumer, async () => {
    const found = []
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(message) } })
    if (offset !== undefined) consumer.seek({ topic, partition: 0, offset: `${offset}` })
    await until(`${count} records read`, () => found.length >= count)
    return found.slice(0, count)
  })
}

async function readAll(bootstrap, topic) {
  const [{ high }] = await withAdmin(bootstrap, (admin) => admin.fetchTopicOffsets(topic))
  return take(bootstrap, topic, Number(high))
}

/** What each codec has packed reads back equal, out of one log. */
async function codecs(bootstrap, topic) {
  await create(bootstrap, topic)
  await everyCodec(
    (messages, codec) => produce(bootstrap, topic, messages, codec),
    () => readAll(bootstrap, topic),
  )
}

/** A consumer begins wherever it is told to: at both ends, within a batch, at a time. */
async function offsets(bootstrap, topic) {
  await create(bootstrap, topic)
  await beginnings(
    (messages) => produce(bootstrap, topic, messages),
    (offset) => take(bootstrap, topic, 1, offset),
    async (time) => {
      const [at] = await withAdmin(bootstrap, (admin) => admin.fetchTopicOffsetsByTimestamp(topic, time))
      return at.offset
    },
  )
  const consumer = kafkaOf(bootstrap).consumer({ groupId: `${topic}-end` })
  await connected(consumer, async () => {
    const found = []
    await consumer.subscribe({ topics: [topic], fromBeginning: false })
    let fetched = false
    consumer.on(consumer.events.FETCH, () => { fetched = true })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(message) } })
    await until('it fetches', () => fetched)
    equal(found, [], 'at the end, before there is more')
    await produce(bootstrap, topic, numbered([10]))
    await until('a record is read', () => found.length > 0)
    equal(numbersOf(found), [10], 'at the end')
  })
}

/** Headers, and keys and values that are null or empty, come back as they were. */
async function fields(bootstrap, topic) {
  await create(bootstrap, topic)
  await produce(bootstrap, topic, FIELDS.map((record) => ({ ...record, partition: 0 })))
  const found = (await readAll(bootstrap, topic)).map(({ key, value, headers }) => ({ key, value, headers }))
  equal(found, FIELDS, 'fields')
}

/** A record of 900 KB. */
async function large(bootstrap, topic) {
  await create(bootstrap, topic)
  await largeRecord(
    (messages) => produce(bootstrap, topic, messages),
    () => readAll(bootstrap, topic),
  )
}

/** 10 000 records of an idempotent producer, in 100 sends: all, in order, none twice. */
async function idempotence(bootstrap, topic) {
  await create(bootstrap, topic)
  const producer = kafkaOf(bootstrap).producer({ idempotent: true, maxInFlightRequests: 1 })
  await connected(producer, async () => {
    for (let n = 0; n < 10_000; n += 100) {
      await producer.send({ topic, messages: numbered(numbers(n, n + 100)) })
    }
  })
  equal(numbersOf(await readAll(bootstrap, topic)), numbers(0, 10_000), '10 000 records')
}

/** Two members share 4 partitions; one comes, one goes, and every record is read once. */
async function group(bootstrap, topic) {
  await create(bootstrap, topic, { numPartitions: 4 })
  await groupOfTwo(
    (all) => produce(bootstrap, topic, numbered(all, 4)),
    async (member) => {
      const consumer = kafkaOf(bootstrap).consumer({
        groupId: `${topic}-group`, heartbeatInterval: 500, maxWaitTimeInMs: 200,
      })
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        member.partitions = payload.memberAssignment[topic] ?? []
      })
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          await consumer.commitOffsets([{ topic, partition, offset: `${Number(message.offset) + 1}` }])
          member.records.push(Number(message.value))
        },
      })
      return () => consumer.disconnect()
    },
  )
}

/** A group that stopped goes on where it had committed, and finds the note it left there. */
async function commit(bootstrap, topic) {
  await create(bootstrap, topic)
  await produce(bootstrap, topic, numbered(numbers(0, 10)))
  const groupId = `${topic}-group`
  const read = async (count, then) => {
    const consumer = kafkaOf(bootstrap).consumer({ groupId })
    return connected(consumer, async () => {
      const found = []
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { found.push(message) } })
      await until(`${count} records read`, () => found.length >= count)
      await then?.(consumer)
      return numbersOf(found.slice(0, count))
    })
  }
  const half = [{ topic, partition: 0, offset: '5', metadata: 'half' }]
  await read(5, (consumer) => consumer.commitOffsets(half))
  await withAdmin(bootstrap, async (admin) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    equal(partitions, [{ partition: 0, offset: '5', metadata: 'half' }], 'committed')
  })
  equal(await read(5), numbers(5, 10), 'the other half')
}

/** A topic and a group from the cradle to the grave, by the admin client. */
async function admin(bootstrap, topic) {
  await create(bootstrap, topic, {
    numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '3600000' }],
  })
  await withAdmin(bootstrap, async (admin) => {
    const partitions = async () =>
      (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
    equal(await partitions(), 2, 'partitions')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await until('4 now', async () => (await partitions()) === 4)

    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    const retention = async () => {
      const found = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      return found.resources[0].configEntries.find((one) => one.configName === 'retention.ms').configValue
    }
    equal(await retention(), '3600000', 'retention.ms as created')
    const configEntries = [{ name: 'retention.ms', value: '7200000' }]
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] })
    await until('retention.ms as altered', async () => (await retention()) === '7200000')

    await produce(bootstrap, topic, numbered(numbers(0, 10)))
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    const [{ low, high }] = (await admin.fetchTopicOffsets(topic)).filter((one) => one.partition === 0)
    equal([low, high], ['4', '10'], 'what is left')
    await adminOfGroup(bootstrap, topic, admin)

    await admin.deleteTopics({ topics: [topic] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  })
}

async function adminOfGroup(bootstrap, topic, admin) {
  const groupId = `${topic}-group`
  const listed = async () => (await admin.listGroups()).groups.some((one) => one.groupId === groupId)
  const consumer = kafkaOf(bootstrap).consumer({ groupId })
  await connected(consumer, async () => {
    let read = 0
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async () => { read += 1 } })
    await until('6 records read', () => read === 6)
    await consumer.commitOffsets([{ topic, partition: 0, offset: '10' }])
    equal(await listed(), true, 'the group is listed')
    const [found] = (await admin.describeGroups([groupId])).groups
    equal([found.state, found.members.length], ['Stable', 1], "the group's state")
    AssignerProtocol.MemberAssignment.decode(found.members[0].memberAssignment)
  })
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  equal(partitions.find((one) => one.partition === 0).offset, '10', "the group's offset")
  await admin.deleteGroups([groupId])
  equal(await listed(), false, 'the group is listed, after it was deleted')
}

/** The leader is killed under load: every acknowledged record is read back. */
async function failover(bootstrap, topic) {
  await create(bootstrap, topic, { replicationFactor: 3 })
  const producer = kafkaOf(bootstrap).producer()
  await connected(producer, async () => {
    const send = (number) => producer.send({ topic, acks: -1, messages: numbered([number]) })
    const acknowledged = await underLoad(topic, send)
    verify(acknowledged, numbersOf(await readAll(bootstrap, topic)))
  })
}

module.exports = { codecs, offsets, fields, large, idempotence, group, commit, admin, failover }
