"use strict";
// Core messaging with the client of npm: publish, request, queue groups, headers, drain.

const assert = require("node:assert/strict");
const { connect, headers, errors } = require("@nats-io/transport-node");

async function take(messages, count) {
  const taken = [];
  for await (const message of messages) {
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}

async function main(servers) {
  const nc = await connect({ servers });
  const other = await connect({ servers });

  const inbox = other.subscribe("orders.>", { max: 2 });
  await other.flush();
  const marked = headers();
  marked.append("Key", "a value");
  marked.append("Key", "another");
  nc.publish("orders.new", "one");
  nc.publish("orders.old", "two", { headers: marked });
  const [one, two] = await take(inbox, 2);
  assert.deepEqual([one.subject, one.string(), one.headers], ["orders.new", "one", undefined]);
  assert.deepEqual([two.string(), two.headers.values("Key")], ["two", ["a value", "another"]]);

  other.subscribe("double", { callback: (_, request) => request.respond(request.string().repeat(2)) });
  await other.flush();
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) => nc.request("double", `${n}`, { timeout: 5000 })),
  );
  assert.deepEqual(answers.map((answer) => answer.string()), answers.map((_, n) => `${n}${n}`));
  await assert.rejects(nc.request("nobody", "", { timeout: 5000 }), (error) =>
    error instanceof errors.NoRespondersError || error.cause instanceof errors.NoRespondersError);

  const shares = [0, 0];
  const everything = new Promise((resolve) => {
    [nc, other].forEach((connection, member) =>
      connection.subscribe("work", {
        queue: "workers",
        callback: () => {
          shares[member] += 1;
          if (shares[0] + shares[1] === 200) resolve();
        },
      }));
  });
  await Promise.all([nc.flush(), other.flush()]);
  for (let n = 0; n < 200; n += 1) nc.publish("work", `${n}`);
  await everything;
  assert.ok(Math.min(...shares) > 20, `${shares}`);

  let drained = 0;
  other.subscribe("last", { callback: () => (drained += 1) });
  await other.flush();
  for (let n = 0; n < 500; n += 1) nc.publish("last", `${n}`);
  await nc.flush();
  await other.drain();
  assert.equal(drained, 500);
  assert.ok(other.isClosed());
  await nc.close();
}

main(process.argv[2]);
