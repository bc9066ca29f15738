"""pynsq; see README.md."""
import logging
import sys

import nsq
import tornado.ioloop

addresses, lookups = sys.argv[1].split(","), sys.argv[2].split(",")
topic, count = sys.argv[3], int(sys.argv[4])
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
loop = tornado.ioloop.IOLoop.current()
published, consumed = set(), set()


def say(fact, body):
    print(fact, body, flush=True)


def check():
    if len(published) == count and published <= consumed:
        print("done", flush=True)
        loop.stop()


def handler(message):
    body = message.body.decode()
    consumed.add(body)
    say("consumed", body)
    check()
    return True


writers = [nsq.Writer([address], reconnect_interval=0.5) for address in addresses]
reader = nsq.Reader(topic, "clients", message_handler=handler, max_in_flight=20,
                    lookupd_http_addresses=["http://" + a for a in lookups],
                    lookupd_poll_interval=1, lookupd_poll_jitter=0.1, max_backoff_duration=1)


def publish(index, attempt=0):
    body = "m%d" % index
    writer = writers[(index + attempt) % len(writers)]
    if not any(connection.connected() for connection in writer.conns.values()):
        return loop.call_later(0.02, publish, index, attempt + 1)

    def answer(connection, data):
        if isinstance(data, Exception) or data != b"OK":
            return loop.call_later(0.02, publish, index, attempt + 1)
        published.add(body)
        say("published", body)
        if index + 1 < count:
            loop.call_later(0.005, publish, index + 1)
        check()

    try:
        writer.pub(topic, body.encode(), answer)
    except Exception:
        loop.call_later(0.02, publish, index, attempt + 1)


loop.call_later(0.2, publish, 0)
loop.start()
