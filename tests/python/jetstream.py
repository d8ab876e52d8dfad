"""Streams, consumers and key-value with nats-py."""

import asyncio
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig, KeyValueConfig, StreamConfig
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError


async def streams(js) -> None:
    info = await js.add_stream(StreamConfig(name="S", subjects=["s.*"], max_msgs=1000))
    assert info.config.name == "S" and info.state.messages == 0
    for n in range(1, 101):
        ack = await js.publish(f"s.{n % 2}", b"%d" % n)
        assert (ack.stream, ack.seq) == ("S", n), ack
    again = await js.publish("s.0", b"id", headers={"Nats-Msg-Id": "i"})
    twice = await js.publish("s.0", b"id", headers={"Nats-Msg-Id": "i"})
    assert again.seq == twice.seq == 101 and twice.duplicate, twice
    message = await js.get_msg("S", 7)
    assert message.data == b"7", message
    message = await js.get_last_msg("S", "s.1")
    assert message.seq == 99, message
    await js.delete_msg("S", 101)
    try:
        await js.publish("s.0", b"x", headers={"Nats-Expected-Last-Sequence": "5"})
        raise AssertionError("a wrong sequence was accepted")
    except APIError as error:
        assert error.err_code == 10071, error

    pull = await js.pull_subscribe("s.>", durable="PULL", stream="S")
    got = []
    while len(got) < 100:
        for message in await pull.fetch(30, timeout=5):
            got.append(message.metadata.sequence.stream)
            await message.ack_sync()
    assert got == list(range(1, 101)), got
    info = await pull.consumer_info()
    assert (info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq) == (0, 0, 100), info

    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT)
    push = await js.subscribe("s.0", stream="S", config=config, manual_ack=True)
    for n in range(2, 101, 2):
        message = await push.next_msg(5)
        assert message.data == b"%d" % n, message.data
        await message.ack()
    await push.unsubscribe()

    ordered = await js.subscribe("s.>", stream="S", ordered_consumer=True)
    for n in range(1, 101):
        assert (await ordered.next_msg(5)).data == b"%d" % n
    await ordered.unsubscribe()

    await js.purge_stream("S", subject="s.0")
    assert (await js.stream_info("S")).state.messages == 50
    assert await js.delete_consumer("S", "PULL")
    assert await js.delete_stream("S")
    try:
        await js.stream_info("S")
        raise AssertionError("a deleted stream was found")
    except NotFoundError:
        pass


async def key_value(js) -> None:
    kv = await js.create_key_value(KeyValueConfig(bucket="B", history=5))
    watcher = await kv.watchall()
    assert await watcher.updates(timeout=5) is None, "nothing is there yet"
    assert await kv.put("a", b"1") == 1
    assert await kv.put("a", b"2") == 2
    assert await kv.create("b", b"3") == 3
    try:
        await kv.update("b", b"4", last=1)
        raise AssertionError("a stale update was accepted")
    except KeyWrongLastSequenceError:
        pass
    assert await kv.update("b", b"5", last=3) == 4
    assert (await kv.get("a")).value == b"2"
    await kv.delete("a")
    try:
        await kv.get("a")
        raise AssertionError("a deleted key was found")
    except KeyNotFoundError:
        pass
    try:
        await kv.get("none")
        raise AssertionError("an unknown key was found")
    except KeyNotFoundError:
        pass
    seen = []
    while len(seen) < 5:
        entry = await watcher.updates(timeout=5)
        seen.append((entry.key, entry.revision, entry.operation))
    assert seen == [("a", 1, None), ("a", 2, None), ("b", 3, None), ("b", 4, None), ("a", 5, "DEL")], seen
    history = [(entry.revision, entry.operation) for entry in await kv.history("a")]
    assert history == [(1, None), (2, None), (5, "DEL")], history
    assert await kv.keys() == ["b"]
    status = await kv.status()
    assert (status.bucket, status.history) == ("B", 5), status
    await kv.purge("b")
    await js.delete_key_value("B")


async def main(url: str) -> None:
    nc = await nats.connect(url)
    js = nc.jetstream()
    await streams(js)
    await key_value(js)
    await nc.close()


asyncio.run(main(sys.argv[1]))
