"""Asks every server for its JetStream as a system user, as scripts of operators do."""

import asyncio
import json
import sys

import nats


async def main(url):
    client = await nats.connect(url, user="sys", password="sys")
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    await client.publish("$SYS.REQ.SERVER.PING.JSZ", b'{"accounts":true,"streams":true}', reply=inbox)
    answer = json.loads((await answers.next_msg(timeout=10)).data)
    assert "error" not in answer, answer
    data = answer["data"]
    streams = [s["name"] for account in data["account_details"] for s in account["stream_detail"]]
    meta = data.get("meta_cluster") or {}
    offline = [replica["name"] for replica in meta.get("replicas") or [] if replica.get("offline")]
    print(answer["server"]["name"], data["streams"], streams, offline)
    await client.close()


asyncio.run(main(sys.argv[1]))
