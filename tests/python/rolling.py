"""A program with nats-py that publishes, pulls, watches a key and puts objects while its servers are restarted.

Works until its standard input ends. Then everything must have arrived, in order, once.
"""

import asyncio
import sys
import threading

import nats
from nats.js.api import ConsumerConfig

TIMEOUT = 3
# Other libraries of the same makers try again after this by themselves.
RETRY = 0.25


class Program:
    def __init__(self, nc, js, kv, objects) -> None:
        self.nc, self.js, self.kv, self.objects = nc, js, kv, objects
        self.ends, self.published, self.written = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.acknowledged = {}
        self.first = []
        self.delivered = set()
        self.revisions = []
        self.seen = []

    async def once_more(self, what, call):
        """Calls, and once again if there was no answer."""
        try:
            return await call()
        except Exception as error:
            print(f"{what} again after {error!r}", file=sys.stderr)
            await asyncio.sleep(RETRY)
            return await call()

    async def publish(self) -> None:
        n = 0
        while not self.ends.is_set():
            body = b"%d" % n
            headers = {"Nats-Msg-Id": f"id{n}"}
            call = lambda: self.js.publish("py.m", body, timeout=TIMEOUT, headers=headers)
            ack = await self.once_more(f"publish {n}", call)
            assert ack.seq not in self.acknowledged, f"{ack.seq} is used twice"
            self.acknowledged[ack.seq] = body
            n += 1
            await asyncio.sleep(0.002)
        self.published.set()

    async def pull(self) -> None:
        config = ConsumerConfig(ack_wait=3)
        consumer = await self.js.pull_subscribe("py.m", durable="D", config=config)
        # What was confirmed; what may have been, of which the answer did not come.
        confirmed, doubtful = set(), set()
        while not self.published.is_set() or set(self.acknowledged) - confirmed - doubtful:
            try:
                messages = await consumer.fetch(20, timeout=1)
            except (asyncio.TimeoutError, nats.errors.Error, nats.js.errors.APIError):
                continue
            for message in messages:
                data = message.metadata
                assert data.sequence.stream not in confirmed, f"{data.sequence.stream} came again"
                self.delivered.add((data.sequence.stream, message.data))
                # What is delivered again may come behind what followed it.
                if data.num_delivered == 1:
                    self.first.append(data.sequence.stream)
                try:
                    await message.ack_sync(timeout=TIMEOUT)
                except Exception as error:
                    print(f"ack of {data.sequence.stream}: {error!r}", file=sys.stderr)
                    doubtful.add(data.sequence.stream)
                    continue
                confirmed.add(data.sequence.stream)

    async def write(self) -> None:
        n = 0
        while not self.ends.is_set():
            value = b"%d" % n
            revision = await self.once_more(f"put {n}", lambda: self.kv.put("key", value))
            self.revisions.append((revision, value))
            n += 1
            await asyncio.sleep(0.01)
        self.written.set()

    async def watch(self) -> None:
        watcher = await self.kv.watch("key")
        while not self.written.is_set() or not self.seen or self.seen[-1][0] < self.revisions[-1][0]:
            try:
                entry = await watcher.updates(timeout=1)
            except asyncio.TimeoutError:
                continue
            if entry is not None:
                self.seen.append((entry.revision, entry.value))

    async def put(self) -> None:
        n = 0
        while not self.ends.is_set():
            body = b"%06d" % n * 40_000
            await self.once_more(f"object {n}", lambda: self.objects.put(f"o{n}", body))
            got = await self.once_more(f"get {n}", lambda: self.objects.get(f"o{n}"))
            assert got.data == body, f"object {n} is another"
            n += 1

    def judge(self) -> None:
        assert self.first == sorted(set(self.first)), "out of order"
        missing = set(self.acknowledged) - {sequence for sequence, _ in self.delivered}
        assert not missing, f"never delivered: {missing}"
        for sequence, body in self.delivered:
            assert self.acknowledged.get(sequence, body) == body, f"{sequence} is {body}"
        revisions = [revision for revision, _ in self.seen]
        assert revisions == sorted(set(revisions)), "revisions out of order"
        missing = set(self.revisions) - set(self.seen)
        assert not missing, f"not seen: {sorted(missing)[:5]} of {len(self.revisions)}"
        assert len(self.acknowledged) > 10 and len(self.revisions) > 10


async def main(urls: str) -> None:
    options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
    nc = await nats.connect(urls.split(","), **options)
    js = nc.jetstream(timeout=TIMEOUT)
    await js.add_stream(name="PY", subjects=["py.>"], num_replicas=3)
    kv = await js.create_key_value(bucket="PYKV", history=64, replicas=3)
    objects = await js.create_object_store(bucket="PYOBJ", config=nats.js.api.ObjectStoreConfig(replicas=3))
    program = Program(nc, js, kv, objects)
    loop = asyncio.get_running_loop()

    def until_told() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(program.ends.set)

    # A program that fails does not wait for it.
    threading.Thread(target=until_told, daemon=True).start()
    print("READY", flush=True)
    work = [program.publish(), program.pull(), program.write(), program.watch(), program.put()]
    await asyncio.gather(*work)
    program.judge()
    await nc.close()


asyncio.run(main(sys.argv[1]))
