"use strict";
// Streams and consumers with the client of npm.

const assert = require("node:assert/strict");
const { connect, nanos } = require("@nats-io/transport-node");
const { jetstream, jetstreamManager, AckPolicy, JetStreamApiError } = require("@nats-io/jetstream");

const COUNT = 100;

async function streams(js, jsm) {
  const info = await jsm.streams.add({ name: "S", subjects: ["s.*"] });
  assert.deepEqual([info.config.name, info.state.messages], ["S", 0]);
  for (let n = 1; n <= COUNT; n += 1) {
    const ack = await js.publish(`s.${n % 2}`, `${n}`);
    assert.deepEqual([ack.stream, ack.seq, ack.duplicate], ["S", n, false]);
  }
  const first = await js.publish("s.0", "id", { msgID: "i" });
  const again = await js.publish("s.0", "id", { msgID: "i" });
  assert.deepEqual([first.seq, again.seq, again.duplicate], [COUNT + 1, COUNT + 1, true]);
  await assert.rejects(
    js.publish("s.0", "x", { expect: { lastSequence: 5 } }),
    (error) => error instanceof JetStreamApiError && error.code === 10071,
  );
  assert.equal((await jsm.streams.getMessage("S", { seq: 7 })).string(), "7");
  assert.equal((await jsm.streams.getMessage("S", { last_by_subj: "s.1" })).seq, 99);
  assert.ok(await jsm.streams.deleteMessage("S", COUNT + 1));
  const names = [];
  for await (const stream of jsm.streams.list()) names.push(stream.config.name);
  assert.deepEqual(names, ["S"]);
}

async function consumers(js, jsm) {
  await jsm.consumers.add("S", { durable_name: "C", ack_policy: AckPolicy.Explicit, ack_wait: nanos(30_000) });
  const consumer = await js.consumers.get("S", "C");
  const one = await consumer.next({ expires: 5000 });
  assert.equal(one.string(), "1");
  assert.ok(await one.ackAck());
  let at = 2;
  for await (const message of await consumer.fetch({ max_messages: 30, expires: 5000 })) {
    assert.deepEqual([message.seq, message.string()], [at, `${at}`]);
    message.ack();
    at += 1;
  }
  assert.equal(at, 32);
  const rest = new Set();
  let deliveries = 0;
  const messages = await consumer.consume({ max_messages: 20 });
  for await (const message of messages) {
    if (message.seq === 40) {
      deliveries = message.info.deliveryCount;
      if (deliveries === 1) {
        message.nak();
        continue;
      }
    }
    await message.ackAck();
    rest.add(message.seq);
    if (rest.size === COUNT + 1 - at) break;
  }
  await messages.close();
  assert.equal(deliveries, 2);
  assert.deepEqual([Math.min(...rest), Math.max(...rest)], [at, COUNT]);
  const ordered = await js.consumers.get("S", { filter_subjects: ["s.1"] });
  let odd = 1;
  for await (const message of await ordered.consume()) {
    assert.equal(message.string(), `${odd}`);
    odd += 2;
    if (message.info.pending === 0) break;
  }
  assert.equal(odd, COUNT + 1);
  assert.equal((await jsm.streams.purge("S", { filter: "s.1" })).purged, COUNT / 2);
  assert.ok(await jsm.consumers.delete("S", "C"));
  assert.ok(await jsm.streams.delete("S"));
  await assert.rejects(jsm.streams.info("S"), (error) => error.code === 10059 || error.name === "StreamNotFoundError");
}

async function main(servers) {
  const nc = await connect({ servers });
  const jsm = await jetstreamManager(nc);
  const js = jetstream(nc);
  await streams(js, jsm);
  await consumers(js, jsm);
  await nc.close();
}

main(process.argv[2]);
