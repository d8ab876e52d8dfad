"""Object stores and keys that expire, with nats-py."""

import asyncio
import base64
import hashlib
import sys

import nats
from nats.js.api import KeyValueConfig
from nats.js.errors import BadRequestError, ObjectDeletedError, ObjectNotFoundError


def digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


async def objects(js) -> None:
    store = await js.create_object_store("B")
    watcher = await store.watch()
    assert await watcher.updates(timeout=5) is None, "nothing is there yet"
    large = bytes((n * 7919 >> 8) & 0xFF for n in range(3_000_000))
    info = await store.put("large", large)
    assert (info.size, info.digest) == (len(large), digest(large)), info
    assert info.chunks > 1, info
    assert (await store.get("large")).data == large
    await store.put("small", b"old")
    await store.put("small", b"new")
    assert (await store.get("small")).data == b"new"
    await store.put("empty", b"")
    assert (await store.get_info("empty")).size == 0
    assert sorted(entry.name for entry in await store.list()) == ["empty", "large", "small"]
    await store.delete("large")
    for name, error in (("large", ObjectDeletedError), ("none", ObjectNotFoundError)):
        try:
            await store.get(name)
            raise AssertionError(f"{name} was found")
        except (ObjectDeletedError, ObjectNotFoundError) as refused:
            assert isinstance(refused, (error, ObjectNotFoundError)), refused
    seen = []
    while len(seen) < 5:
        entry = await watcher.updates(timeout=5)
        seen.append((entry.name, entry.deleted))
    assert [name for name, _ in seen] == ["large", "small", "small", "empty", "large"], seen
    assert seen[4][1] is True, seen
    # The chunks of what was replaced or deleted are gone.
    state = (await js.stream_info("OBJ_B", subjects_filter="$O.B.C.>")).state
    assert sum((state.subjects or {}).values()) == 1, state.subjects
    await store.seal()
    assert (await store.status()).sealed
    try:
        await asyncio.wait_for(store.put("late", b"x"), 5)
        raise AssertionError("a sealed store took an object")
    except (BadRequestError, nats.js.errors.APIError):
        pass
    assert (await store.get("small")).data == b"new"
    assert await js.delete_object_store("B")


async def expiring_keys(js) -> None:
    kv = await js.create_key_value(KeyValueConfig(bucket="T", ttl=1))
    watcher = await kv.watchall()
    assert await watcher.updates(timeout=5) is None
    await kv.put("k", b"v")
    assert (await kv.get("k")).value == b"v"
    entry = await watcher.updates(timeout=5)
    assert (entry.key, entry.value) == ("k", b"v"), entry
    for _ in range(400):
        if (await kv.status()).values == 0:
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("the key did not expire")
    await js.delete_key_value("T")


async def main(url: str) -> None:
    nc = await nats.connect(url)
    js = nc.jetstream()
    await objects(js)
    await expiring_keys(js)
    await nc.close()


asyncio.run(main(sys.argv[1]))
