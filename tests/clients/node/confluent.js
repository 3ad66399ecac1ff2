'use strict'
// @confluentinc/kafka-javascript: librdkafka under Node, here by its interface in the manner of kafkajs.

const { KafkaJS } = require('@confluentinc/kafka-javascript')
const {
  FIELDS, beginnings, connected, equal, everyCodec, groupOfTwo, largeRecord, numbered, numbers, numbersOf, sleep,
  underLoad, until, verify,
} = require('./cases')

const kafkaOf = (bootstrap) => new KafkaJS.Kafka({
  kafkaJS: { brokers: bootstrap.split(','), logLevel: KafkaJS.logLevel.WARN },
})

const withAdmin = (bootstrap, use) => connected(kafkaOf(bootstrap).admin(), use)

async function partitionsOf(admin, topic) {
  const [found] = await admin.fetchTopicMetadata({ topics: [topic] })
  return found.partitions.filter((one) => one.leader >= 0).length
}

async function create(bootstrap, topic, more = {}) {
  const wanted = { topic, numPartitions: 1, replicationFactor: 1, ...more }
  await withAdmin(bootstrap, async (admin) => {
    await admin.createTopics({ topics: [wanted] })
    await until(`${topic} is there`, async () => {
      const there = (await admin.listTopics()).includes(topic)
      return there && (await partitionsOf(admin, topic)) === wanted.numPartitions
    })
  })
}

function produce(bootstrap, topic, messages, kafkaJS = {}) {
  return connected(kafkaOf(bootstrap).producer({ kafkaJS, 'linger.ms': 50 }), (producer) =>
    producer.send({ topic, messages }))
}

const consumerOf = (bootstrap, groupId, fromBeginning = true) =>
  kafkaOf(bootstrap).consumer({ kafkaJS: { groupId, fromBeginning, autoCommit: false } })

let readers = 0

/** Takes `count` messages of partition 0, as a member of a group: there is no other way. */
async function take(bootstrap, topic, count, offset) {
  const consumer = consumerOf(bootstrap, `${topic}-reader-${readers++}`)
  return connected(consumer, async () => {
    let found = []
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(message) } })
    if (offset !== undefined) {
      await until('it has the partition', () => consumer.assignment().length === 1)
      consumer.seek({ topic, partition: 0, offset: `${offset}` })
      const sought = () => found.findIndex((message) => message.offset === `${offset}`)
      await until(`offset ${offset} is read`, () => sought() >= 0)
      found = found.slice(sought()) // what was fetched before the seek comes first
    }
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
    (messages, codec) => produce(bootstrap, topic, messages, { compression: codec }),
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
  await connected(consumerOf(bootstrap, `${topic}-end`, false), async (consumer) => {
    const found = []
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(message) } })
    await until('it has the partition', () => consumer.assignment().length === 1)
    await sleep(2000)
    equal(found, [], 'at the end, before there is more')
    await produce(bootstrap, topic, numbered([10]))
    await until('a record is read', () => found.length > 0)
    equal(numbersOf(found), [10], 'at the end')
  })
}

/** Headers, and keys and values that are null or empty, come back as they were; the client itself
 * makes null of what is empty. */
async function fields(bootstrap, topic) {
  const nullIfEmpty = (bytes) => (bytes?.length ? bytes : null)
  const wanted = FIELDS.map(
    ({ key, value, headers }) => ({ key: nullIfEmpty(key), value: nullIfEmpty(value), headers }))
  await create(bootstrap, topic)
  await produce(bootstrap, topic, FIELDS.map((record) => ({ ...record, partition: 0 })))
  const found = (await readAll(bootstrap, topic)).map(
    ({ key, value, headers }) => ({ key, value, headers: headers ?? {} }))
  equal(found, wanted, 'fields')
}

/** A record of 900 KB. */
async function large(bootstrap, topic) {
  await create(bootstrap, topic)
  await largeRecord(
    (messages) => produce(bootstrap, topic, messages),
    () => readAll(bootstrap, topic),
  )
}

/** 10 000 records of an idempotent producer: all, in order, none twice. */
async function idempotence(bootstrap, topic) {
  await create(bootstrap, topic)
  await produce(bootstrap, topic, numbered(numbers(0, 10_000)), { idempotent: true })
  equal(numbersOf(await readAll(bootstrap, topic)), numbers(0, 10_000), '10 000 records')
}

/** Two members share 4 partitions; one comes, one goes, and every record is read once. */
async function group(bootstrap, topic) {
  await create(bootstrap, topic, { numPartitions: 4 })
  await groupOfTwo(
    (all) => produce(bootstrap, topic, numbered(all, 4)),
    async (member) => {
      const consumer = consumerOf(bootstrap, `${topic}-group`)
      await consumer.connect()
      await consumer.subscribe({ topics: [topic] })
      await consumer.run({
        eachMessage: async ({ partition, message }) => {
          await consumer.commitOffsets([{ topic, partition, offset: `${Number(message.offset) + 1}` }])
          member.records.push(Number(message.value))
        },
      })
      const look = setInterval(() => {
        member.partitions = consumer.assignment().map((one) => one.partition)
      }, 100)
      return () => {
        clearInterval(look)
        return consumer.disconnect()
      }
    },
  )
}

/** A group that stopped goes on where it had committed, and finds the note it left there. */
async function commit(bootstrap, topic) {
  await create(bootstrap, topic)
  await produce(bootstrap, topic, numbered(numbers(0, 10)))
  const read = (then) => connected(consumerOf(bootstrap, `${topic}-group`), async (consumer) => {
    const found = []
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(message) } })
    await until('5 records read', () => found.length >= 5)
    await then?.(consumer)
    return numbersOf(found.slice(0, 5))
  })
  await read((consumer) => consumer.commitOffsets([{ topic, partition: 0, offset: '5', metadata: 'half' }]))
  await withAdmin(bootstrap, async (admin) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: `${topic}-group`, topics: [topic] })
    equal([partitions[0].offset, partitions[0].metadata], ['5', 'half'], 'committed')
  })
  equal(await read(), numbers(5, 10), 'the other half')
}

/** A topic and a group from the cradle to the grave, by the admin client (which can neither add
 * partitions nor ask for settings). */
async function admin(bootstrap, topic) {
  const configEntries = [{ name: 'retention.ms', value: '3600000' }]
  await create(bootstrap, topic, { numPartitions: 2, configEntries })
  await produce(bootstrap, topic, numbered(numbers(0, 10)))
  await withAdmin(bootstrap, async (admin) => {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    const found = (await admin.fetchTopicOffsets(topic)).find((one) => one.partition === 0)
    equal([found.low, found.high], ['4', '10'], 'what is left')
    await adminOfGroup(bootstrap, topic, admin)
    await admin.deleteTopics({ topics: [topic] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  })
}

async function adminOfGroup(bootstrap, topic, admin) {
  const groupId = `${topic}-group`
  const listed = async () => (await admin.listGroups()).groups.some((one) => one.groupId === groupId)
  await connected(consumerOf(bootstrap, groupId), async (consumer) => {
    let read = 0
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async () => { read += 1 } })
    await until('6 records read', () => read === 6)
    await consumer.commitOffsets([{ topic, partition: 0, offset: '10' }])
    equal(await listed(), true, 'the group is listed')
    const [found] = (await admin.describeGroups([groupId])).groups
    equal([found.state, found.members.length], [KafkaJS.ConsumerGroupStates.STABLE, 1], "the group's state")
  })
  await admin.deleteGroups([groupId])
  equal(await listed(), false, 'the group is listed, after it was deleted')
}

/** The leader is killed under load: every acknowledged record is read back. */
async function failover(bootstrap, topic) {
  await create(bootstrap, topic, { replicationFactor: 3 })
  const producer = kafkaOf(bootstrap).producer({ kafkaJS: { acks: -1 }, 'linger.ms': 5 })
  await connected(producer, async () => {
    const send = (number) => producer.send({ topic, messages: numbered([number]) })
    const acknowledged = await underLoad(topic, send)
    verify(acknowledged, numbersOf(await readAll(bootstrap, topic)))
  })
}

module.exports = { codecs, offsets, fields, large, idempotence, group, commit, admin, failover }
