"""A client of nats-py through a restart: it prints READY, and the server is restarted when that is read."""

import asyncio
import sys

import nats


async def main(url: str) -> None:
    back = asyncio.Event()

    async def reconnected():
        back.set()

    nc = await nats.connect(url, reconnected_cb=reconnected, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
    js = nc.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    kept = await nc.subscribe("kept")
    for n in range(1, 51):
        assert (await js.publish("s", b"%d" % n)).seq == n
    print("READY", flush=True)
    await asyncio.wait_for(back.wait(), 20)
    await nc.publish("kept", b"x")
    assert (await kept.next_msg(5)).data == b"x"
    assert (await js.stream_info("S")).state.messages == 50
    assert (await js.publish("s", b"51")).seq == 51
    await nc.close()


asyncio.run(main(sys.argv[1]))
