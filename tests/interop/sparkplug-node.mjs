// A Sparkplug B edge node, by sparkplug-payload and mqtt.js: data before its birth, the birth that the host application asks
// for, units, integers and late values; then it vanishes and its will says so.
//
//     node sparkplug-node.mjs HOST PORT USER PASSWORD HOST_ID START

import { connect } from "mqtt";
import sparkplug from "sparkplug-payload";

const [host, port, user, password, hostId, startText] = process.argv.slice(2);
const start = Number(startText) * 1000;
const { encodePayload, decodePayload } = sparkplug.get("spBv1.0");
const session = { name: "bdSeq", type: "UInt64", value: 4 };
const patience = setTimeout(() => {
  console.error("the host application did not do what it should within 30 s");
  process.exit(1);
}, 30_000);

let seq = 0;
const number = () => seq++ % 256;
const client = connect(`mqtt://${host}:${port}`, {
  clientId: "edge2",
  username: user,
  password,
  reconnectPeriod: 0,
  will: {
    topic: "spBv1.0/Farm/NDEATH/edge2",
    payload: Buffer.from(encodePayload({ timestamp: start, metrics: [session] })),
    qos: 1,
    retain: false,
  },
});
client.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});

/** The next message on a topic. */
const next = (topic) =>
  new Promise((resolve) => {
    const take = (on, payload, packet) => {
      if (on === topic) {
        client.off("message", take);
        resolve({ payload, packet });
      }
    };
    client.on("message", take);
  });
const publish = (kind, payload) =>
  client.publishAsync(`spBv1.0/Farm/${kind}/edge2`, Buffer.from(encodePayload(payload)), { qos: 1 });

await new Promise((resolve) => client.on("connect", resolve));
const state = next(`spBv1.0/STATE/${hostId}`);
const asked = next("spBv1.0/Farm/NCMD/edge2");
await client.subscribeAsync([`spBv1.0/STATE/${hostId}`, "spBv1.0/Farm/NCMD/edge2"], { qos: 1 });
const { payload: said, packet } = await state;
if (JSON.parse(said).online !== true || !packet.retain) {
  throw new Error(`not online, or not retained: ${said}`);
}

/** One measurement, by aliases alone. */
const measured = (i) => ({
  timestamp: start + 10_000 * i,
  seq: number(),
  metrics: [
    { alias: 1, type: "Float", value: 50 + 0.5 * i },
    { alias: 2, type: "Int16", value: -100 - i },
  ],
});
// The gateway was not there when the node was born: it cannot know what the aliases are.
seq = 9;
await publish("NDATA", measured(0));
const { payload: command } = await asked;
const [rebirth] = decodePayload(command).metrics;
if (rebirth.name !== "Node Control/Rebirth" || rebirth.value !== true) {
  throw new Error(`no rebirth: ${JSON.stringify(rebirth)}`);
}
seq = 0;
const engUnit = (unit) => ({ engUnit: { type: "String", value: unit } });
await publish("NBIRTH", {
  timestamp: start,
  seq: number(),
  metrics: [
    session,
    { name: "Node Control/Rebirth", type: "Boolean", value: false },
    { name: "Air Temperature/2m", alias: 1, type: "Float", value: null, properties: engUnit("degF") },
    { name: "RSSI", alias: 2, type: "Int16", value: null, properties: engUnit("dBm") },
  ],
});
for (let i = 2; i < 31; i++) {
  await publish("NDATA", measured(i));
}
// What was missed comes later, with its own time.
const missed = [{ alias: 1, type: "Float", value: 50.5, timestamp: start + 10_000, isHistorical: true }];
await publish("NDATA", { timestamp: start + 300_000, seq: number(), metrics: missed });
clearTimeout(patience);
console.log("done");
// Without a farewell: the door publishes the will.
client.stream.destroy();
process.exit(0);
