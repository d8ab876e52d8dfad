"use strict";
// Key-value buckets with the client of npm.

const assert = require("node:assert/strict");
const { connect } = require("@nats-io/transport-node");
const { Kvm } = require("@nats-io/kv");

async function all(iterator) {
  const entries = [];
  for await (const entry of iterator) entries.push(entry);
  return entries;
}

async function main(servers) {
  const nc = await connect({ servers });
  const kvm = new Kvm(nc);
  const kv = await kvm.create("B", { history: 5, markerTTL: 1000 });
  const watch = await kv.watch();
  assert.equal(await kv.put("a", "1"), 1);
  assert.equal(await kv.put("a", "2"), 2);
  assert.equal(await kv.create("b", "3"), 3);
  await assert.rejects(kv.create("b", "4"), (error) => error.code === 10071);
  assert.equal(await kv.update("b", "5", 3), 4);
  await assert.rejects(kv.update("b", "6", 3), (error) => error.code === 10071);
  assert.equal((await kv.get("a")).string(), "2");
  assert.equal((await kv.get("a", { revision: 1 })).string(), "1");
  assert.equal(await kv.get("none"), null);
  await kv.delete("a");
  assert.equal((await kv.get("a")).operation, "DEL");
  const history = await all(await kv.history({ key: "a" }));
  assert.deepEqual(history.map((e) => [e.revision, e.operation]), [[1, "PUT"], [2, "PUT"], [5, "DEL"]]);
  assert.deepEqual(await all(await kv.keys()), ["b"]);
  await kv.purge("b");
  assert.deepEqual((await all(await kv.history({ key: "b" }))).map((e) => e.operation), ["PURGE"]);
  assert.equal(await kv.create("a", "again"), 7);

  // A key that lives for a second leaves a marker, which goes after a second, too.
  assert.equal(await kv.create("short", "lived", "1s"), 8);
  assert.equal((await kv.get("short")).string(), "lived");
  const seen = [];
  for await (const entry of watch) {
    seen.push([entry.key, entry.revision, entry.operation]);
    if (entry.revision === 9) break;
  }
  assert.deepEqual(seen.slice(0, 8), [
    ["a", 1, "PUT"], ["a", 2, "PUT"], ["b", 3, "PUT"], ["b", 4, "PUT"],
    ["a", 5, "DEL"], ["b", 6, "PURGE"], ["a", 7, "PUT"], ["short", 8, "PUT"],
  ]);
  assert.equal(seen[8][0], "short");
  assert.notEqual(seen[8][2], "PUT");
  const status = await kv.status();
  assert.deepEqual([status.bucket, status.history], ["B", 5]);
  assert.ok(await kv.destroy());
  await nc.close();
}

main(process.argv[2]);
