// nsqjs; see README.md.
const nsq = require('nsqjs')

const [addresses, lookups] = [process.argv[2].split(','), process.argv[3].split(',')]
const [topic, count] = [process.argv[4], Number(process.argv[5])]
const published = new Set()
const consumed = new Set()

function check () {
  if (published.size === count && [...published].every((body) => consumed.has(body))) {
    console.log('done')
    setTimeout(() => process.exit(0), 50)
  }
}

const reader = new nsq.Reader(topic, 'clients', {
  lookupdHTTPAddresses: lookups, maxInFlight: 20, lookupdPollInterval: 1, lookupdPollJitter: 0.1
})
reader.on('error', (error) => console.error('reader', String(error)))
reader.on('message', (message) => {
  const body = message.body.toString()
  consumed.add(body)
  console.log('consumed ' + body)
  message.finish()
  check()
})
reader.connect()

// A writer that lost its node is replaced: nsqjs gives up on a connection that was refused.
const writers = addresses.map((address) => {
  const slot = { ready: false }
  const open = () => {
    const [host, port] = address.split(':')
    const writer = new nsq.Writer(host, Number(port))
    let ended = false
    const end = () => {
      slot.ready = false
      if (ended) return
      ended = true
      setTimeout(open, 300)
    }
    writer.on('ready', () => { slot.ready = true })
    writer.on('error', end)
    writer.on('closed', end)
    slot.writer = writer
    writer.connect()
  }
  open()
  return slot
})

function publish (index, attempt) {
  const body = 'm' + index
  const slot = writers[(index + attempt) % writers.length]
  let answered = false
  const again = () => {
    if (answered) return
    answered = true
    setTimeout(() => publish(index, attempt + 1), 20)
  }
  if (!slot.ready) return again()
  const late = setTimeout(again, 2000) // no answer ever comes from a connection that broke
  slot.writer.publish(topic, Buffer.from(body), (error) => {
    clearTimeout(late)
    if (error) return again()
    if (answered) return
    answered = true
    published.add(body)
    console.log('published ' + body)
    if (index + 1 < count) setTimeout(() => publish(index + 1, 0), 5)
    check()
  })
}

publish(0, 0)
