// Other people's sensors, by mqtt.js: the same as tests/python/other_sensors.py.
//
//     node other-sensors.mjs HOST PORT USER PASSWORD NAME START

import { encode } from "cbor2";
import { connectAsync } from "mqtt";

const [host, port, user, password, name, startText] = process.argv.slice(2);
const start = Number(startText);

/** As ChirpStack 4 publishes it (chirpstack.io, "Event types"). */
function uplink(eui, i, rest) {
  const event = {
    deduplicationId: "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    time: new Date((start + 10 * i) * 1000).toISOString(),
    deviceInfo: {
      tenantName: "ChirpStack",
      applicationName: "Farm",
      deviceProfileName: "LSN50v2",
      deviceName: `${name} ${eui}`,
      devEui: eui,
      tags: {},
    },
    devAddr: "00189440",
    adr: true,
    dr: 5,
    fCnt: i,
    rxInfo: [{ gatewayId: "0016c001f153a14c", rssi: -96, snr: 10.5, crcStatus: "CRC_OK" }],
    txInfo: { frequency: 867100000 },
    ...rest,
  };
  return [`application/17c82e96-be03-4f38-aef3-f83d48582d97/device/${eui}/event/up`, JSON.stringify(event)];
}

function* messages() {
  for (let i = 0; i < 31; i++) {
    const value = 10 + i / 10;
    const bt = start + 10 * i;
    const pack = [
      { bn: `urn:dev:mac:${name}:`, bt, n: "temp", u: "K", v: value + 273.15 },
      { n: "label", vs: "north" },
    ];
    yield [`senml/${name}-json/up`, JSON.stringify(pack)];
    // Labels of RFC 8428, section 6: bn -2, bt -3, n 0, u 1, v 2.
    const record = new Map([[-2, "urn:dev:mac:x:"], [-3, bt], [0, "temp"], [1, "Cel"], [2, value]]);
    yield [`senml/${name}-cbor/up`, Buffer.from(encode([record]))];
    const eui = Buffer.from(name).toString("hex").padStart(16, "0");
    const object = { TempC_DS: value, BatV: 3.3, rain_total: 5 + i / 5 };
    yield uplink(eui, i, { fPort: 1, data: "qg==", object });
    // Cayenne LPP: channel 1, type 103, a temperature in tenths.
    const lpp = Buffer.from([1, 103, 0, 0]);
    lpp.writeInt16BE(Math.round(value * 10), 2);
    yield uplink(`${eui.slice(0, -1)}f`, i, { fPort: 2, data: lpp.toString("base64") });
    yield [`farm/${name}/p1/up`, JSON.stringify({ ts: bt, soil: { 20: { vwc: value }, 40: { vwc: -9999 } } })];
  }
}

const client = await connectAsync(`mqtt://${host}:${port}`, {
  clientId: `bridge-${name}`,
  username: user,
  password,
  reconnectPeriod: 0,
});
// Resolved when the PUBACK has come.
const sent = await Promise.all([...messages()].map(([topic, payload]) => client.publishAsync(topic, payload, { qos: 1 })));
await client.endAsync();
console.log(sent.length);
