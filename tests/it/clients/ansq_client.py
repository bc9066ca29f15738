"""ansq; see README.md."""
import asyncio
import logging
import sys

import ansq

addresses, lookups = sys.argv[1].split(","), sys.argv[2].split(",")
topic, count = sys.argv[3], int(sys.argv[4])
logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
published, consumed = set(), set()


def say(fact, body):
    print(fact, body, flush=True)


async def consume():
    reader = await ansq.create_reader(topic, "clients", lookupd_http_addresses=lookups,
                                      lookupd_poll_interval=1000, lookupd_poll_jitter=0.1)
    async for message in reader.messages():
        body = message.body.decode()
        consumed.add(body)
        say("consumed", body)
        await message.fin()


async def publish(body):
    """To the next node that takes it: a writer of ansq ends with its connection."""
    at = 0
    while True:
        address = addresses[at % len(addresses)]
        at += 1
        try:
            if address not in writers:
                writers[address] = await asyncio.wait_for(
                    ansq.create_writer(nsqd_tcp_addresses=[address]), 2)
            answer = await asyncio.wait_for(writers[address].pub(topic, body.encode()), 2)
            if answer is not None and answer.is_ok:
                return
        except Exception:
            pass
        writers.pop(address, None)
        await asyncio.sleep(0.02)


writers = {}


async def main():
    consuming = asyncio.create_task(consume())
    for index in range(count):
        body = "m%d" % index
        await publish(body)
        published.add(body)
        say("published", body)
        addresses.append(addresses.pop(0))
        await asyncio.sleep(0.005)
    while not published <= consumed:
        await asyncio.sleep(0.02)
    print("done", flush=True)
    consuming.cancel()


asyncio.run(main())
