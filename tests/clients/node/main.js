'use strict'
// main.js CLIENT CASE BOOTSTRAP PREFIX: one case with one of the clients written for Node.

const [client, name, bootstrap, prefix] = process.argv.slice(2)
const cases = require({ kafkajs: './kafkajs', 'confluent-kafka-javascript': './confluent' }[client])

cases[name](bootstrap, `${prefix}-${name}`).then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    console.log(`${error}`.replace(/\n/g, ' '))
    process.exit(1)
  },
)
