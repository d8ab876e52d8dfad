"use strict";
// Object stores with the client of npm.

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { connect } = require("@nats-io/transport-node");
const { Objm } = require("@nats-io/obj");

const digest = (data) => `SHA-256=${createHash("sha256").update(data).digest("base64url")}`;
const unpadded = (text) => text.replace(/=+$/, "");

async function main(servers) {
  const nc = await connect({ servers });
  const objm = new Objm(nc);
  const store = await objm.create("B");
  const watch = await store.watch();
  const large = new Uint8Array(5_000_000).map((_, n) => (n * 7919) >> 8);
  const put = await store.putBlob({ name: "large", description: "bytes", metadata: { k: "v" } }, large);
  assert.deepEqual([put.size, put.chunks > 1], [large.length, true]);
  assert.equal(unpadded(put.digest), unpadded(digest(large)));
  const got = await store.getBlob("large");
  assert.ok(Buffer.from(large).equals(Buffer.from(got)));
  const { info, data, error } = await store.get("large");
  let read = 0;
  for await (const chunk of data) read += chunk.length;
  assert.ok(!(await error));
  assert.deepEqual([read, info.metadata], [large.length, { k: "v" }]);

  await store.putBlob({ name: "small" }, new TextEncoder().encode("old"));
  await store.putBlob({ name: "small" }, new TextEncoder().encode("new"));
  assert.equal(new TextDecoder().decode(await store.getBlob("small")), "new");
  await store.putBlob({ name: "empty" }, new Uint8Array(0));
  assert.equal((await store.info("empty")).size, 0);
  await store.link("alias", await store.info("small"));
  assert.equal(new TextDecoder().decode(await store.getBlob("alias")), "new");
  assert.deepEqual((await store.list()).map((o) => o.name).sort(), ["alias", "empty", "large", "small"]);

  await store.delete("large");
  assert.equal(await store.get("large"), null);
  assert.ok((await store.info("large")).deleted);
  await store.update("small", { name: "renamed", description: "d" });
  assert.equal(await store.info("small"), null);
  assert.equal(new TextDecoder().decode(await store.getBlob("renamed")), "new");

  const changes = [];
  for await (const change of watch) {
    changes.push(`${change.name}${change.deleted ? " deleted" : ""}`);
    if (change.name === "renamed") break;
  }
  assert.deepEqual(changes.slice(0, 5), ["large", "small", "small", "empty", "alias"]);
  assert.ok(changes.includes("large deleted"), `${changes}`);

  const sealed = await store.seal();
  assert.ok(sealed.sealed);
  await assert.rejects(store.putBlob({ name: "late" }, new Uint8Array(10)));
  assert.equal(new TextDecoder().decode(await store.getBlob("renamed")), "new");
  const stores = [];
  for await (const status of objm.list()) stores.push(status.bucket);
  assert.deepEqual(stores, ["B"]);
  assert.ok(await store.destroy());
  await nc.close();
}

main(process.argv[2]);
