'use strict'
// What the cases of the clients have in common: the records, and how a wait ends.

const assert = require('node:assert')
const { randomBytes } = require('node:crypto')

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const LARGE = randomBytes(900_000)
const bytes = (text) => Buffer.from(text)
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, n) => n))
// Headers are an object here: one that is there twice is a list.
const FIELDS = [
  {
    key: bytes('key'),
    value: bytes('value'),
    headers: { a: [bytes('1'), bytes('2')], b: everyByte, empty: bytes('') },
  },
  { key: null, value: bytes('null key'), headers: {} },
  { key: bytes('null value'), value: null, headers: {} },
  { key: bytes('empty value'), value: bytes(''), headers: {} },
  { key: bytes(''), value: bytes('empty key'), headers: {} },
]

const say = (...words) => console.error(...words)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n)
const packable = (codec, number) => bytes(`${codec} ${number} `.repeat(50))

function equal(found, wanted, what) {
  try {
    assert.deepStrictEqual(found, wanted)
  } catch (error) {
    say(error.message)
    const short = (value) => (JSON.stringify(value) ?? String(value)).slice(0, 200)
    throw new Error(`${what}: found ${short(found)}, wanted ${short(wanted)}`)
  }
  say(`${what}: as wanted`)
}

/** Runs use(client) with a client that is connected, and disconnects it. */
async function connected(client, use) {
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.disconnect()
  }
}

const numbered = (all, partitions = 1) =>
  all.map((number) => ({ value: `${number}`, partition: number % partitions }))
const numbersOf = (messages) => messages.map((message) => Number(message.value))

/** Waits until done(), which may be asynchronous, says so. */
async function until(what, done, seconds = 40) {
  for (const end = Date.now() + seconds * 1000; !(await done()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`)
  }
  say(what)
}

/**
 * The story of the case codecs: what each codec has packed reads back equal, out of one log.
 * produce(messages, codec) sends, readAll() gives all there is.
 */
async function everyCodec(produce, readAll) {
  const sent = []
  for (const codec of CODECS) {
    const values = numbers(0, 20).map((number) => packable(codec, number))
    await produce(values.map((value) => ({ value, partition: 0 })), codec)
    sent.push(...values)
  }
  equal((await readAll()).map((message) => message.value), sent, 'records of all codecs')
}

/**
 * Most of the case offsets: a consumer begins at the beginning, in the middle of a batch and at a time.
 * first(offset) gives the first message from there on, offsetAt(time) that of the first one since.
 */
async function beginnings(produce, first, offsetAt) {
  const begin = Date.now() - 60_000
  await produce(numbered(numbers(0, 10)).map((one, n) => ({ ...one, timestamp: `${begin + n * 1000}` })))
  const number = async (offset) => numbersOf(await first(offset))[0]
  equal(await number(undefined), 0, 'at the beginning')
  equal(await number(5), 5, 'in the middle of a batch')
  equal(await number(await offsetAt(begin + 6500)), 7, 'by timestamp')
}

/** The case large: a record of 900 KB. */
async function largeRecord(produce, readAll) {
  await produce([{ value: LARGE, partition: 0 }])
  const [found] = await readAll()
  equal(found.value.equals(LARGE), true, 'the large record')
}

/**
 * The story of the case group. produce(numbers) spreads records over 4 partitions; join(member)
 * makes a consumer that keeps member.partitions and member.records, and commits what it reads;
 * what it returns makes it leave. Records are read and committed before the members change, so none
 * may be read twice.
 */
async function groupOfTwo(produce, join) {
  const everyone = []
  const start = async (name) => {
    const member = { name, partitions: [], records: [] }
    everyone.push(member)
    member.leave = await join(member)
    return member
  }
  const shares = (members, sizes) =>
    until(`partitions of each member: ${sizes}`, () => {
      const all = new Set(members.flatMap((member) => member.partitions))
      return all.size === 4 && members.every((member, n) => member.partitions.length === sizes[n])
    })
  const records = () => everyone.flatMap((member) => member.records)
  const read = async (count) => {
    await until(`${count} records read`, () => records().length >= count)
    await sleep(500) // for the commit behind the last of them
  }
  const first = await start('first')
  await shares([first], [4])
  await produce(numbers(0, 200))
  await read(200)
  const second = await start('second')
  await shares([first, second], [2, 2])
  await produce(numbers(200, 400))
  await read(400)
  equal(second.records.length > 0, true, 'the second has read something')
  await second.leave()
  await shares([first], [4])
  await produce(numbers(400, 600))
  await read(600)
  await first.leave()
  const found = records().sort((a, b) => a - b)
  equal(found, numbers(0, 600), 'all records, each once')
}

/**
 * The load of the case failover: send(number) resolves when the record is acknowledged. Says when the
 * leader may be killed, and ends 10 s later. Returns the acknowledged numbers.
 */
async function underLoad(topic, send) {
  const acknowledged = new Set()
  const one = async (number) => {
    await send(number)
    acknowledged.add(number)
  }
  const sent = []
  let end = Infinity
  let number = 0
  while (Date.now() < end) {
    sent.push(one(number++).catch((error) => say(`not acknowledged: ${error}`)))
    await sleep(2)
    if (end === Infinity && acknowledged.size >= 100) {
      console.log(`ready ${topic} 0`)
      end = Date.now() + 10_000
    }
  }
  await Promise.all(sent)
  await one(number)
  return acknowledged
}

function verify(acknowledged, found) {
  say(`${acknowledged.size} acknowledged, ${found.length} found`)
  for (const number of found) acknowledged.delete(number)
  equal([...acknowledged].slice(0, 10), [], 'acknowledged and not there')
}

module.exports = {
  FIELDS, beginnings, connected, equal, everyCodec, groupOfTwo, largeRecord, numbered, numbers, numbersOf,
  sleep, underLoad, until, verify,
}
