"""Core messaging with nats-py: publish, request, queue groups, headers, drain."""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError


async def round_trip(connection) -> None:
    """Waits until the server has worked off what the connection sent; flush() may overtake it."""
    try:
        await connection.request("nobody.is.there", b"", timeout=5)
    except NoRespondersError:
        pass


async def main(url: str) -> None:
    nc = await nats.connect(url)
    other = await nats.connect(url)

    inbox = await other.subscribe("orders.>")
    await round_trip(other)
    await nc.publish("orders.new", b"one")
    message = await inbox.next_msg(5)
    assert (message.subject, message.data) == ("orders.new", b"one"), message

    async def answer(request):
        await request.respond(request.data * 2)

    await other.subscribe("double", cb=answer)
    await round_trip(other)
    answers = await asyncio.gather(*(nc.request("double", b"%d" % n, timeout=5) for n in range(50)))
    assert [a.data for a in answers] == [b"%d%d" % (n, n) for n in range(50)]
    try:
        await nc.request("nobody", b"", timeout=5)
        raise AssertionError("nobody answered")
    except NoRespondersError:
        pass

    await nc.publish("orders.h", b"x", headers={"Key": "a value", "Other": "1"})
    message = await inbox.next_msg(5)
    assert message.headers == {"Key": "a value", "Other": "1"}, message.headers

    shares = [0, 0]
    everything = asyncio.Event()

    def member(index):
        async def count(_message):
            shares[index] += 1
            if sum(shares) == 200:
                everything.set()

        return count

    for index, connection in enumerate((nc, other)):
        await connection.subscribe("work", queue="workers", cb=member(index))
        await round_trip(connection)
    for n in range(200):
        await nc.publish("work", b"%d" % n)
    await asyncio.wait_for(everything.wait(), 10)
    assert sum(shares) == 200 and min(shares) > 20, shares

    drained = []

    async def keep(message):
        drained.append(message.data)

    await other.subscribe("last", cb=keep)
    await round_trip(other)
    for n in range(500):
        await nc.publish("last", b"%d" % n)
    await round_trip(nc)
    await asyncio.wait_for(other.drain(), 10)
    assert len(drained) == 500, len(drained)
    assert other.is_closed
    await nc.close()


asyncio.run(main(sys.argv[1]))
