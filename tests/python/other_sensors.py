"""Other people's sensors, by paho-mqtt: SenML in JSON and CBOR, ChirpStack's uplinks, and JSON of an own shape.

    other_sensors.py HOST PORT USER PASSWORD NAME START

Every ten seconds for five minutes from START (seconds since 1970) each of them measures; NAME is part of the stations'
names. Ends well when the gateway has acknowledged everything.
"""

import base64
import datetime
import json
import struct
import sys

import cbor2
import paho.mqtt.client as mqtt

host, port, user, password, name, start = sys.argv[1:7]
start = int(start)
steps = range(31)


def uplink(eui, i, rest):
    """As ChirpStack 4 publishes it (chirpstack.io, "Event types")."""
    at = datetime.datetime.fromtimestamp(start + 10 * i, datetime.timezone.utc).isoformat()
    event = {
        "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
        "time": at,
        "deviceInfo": {
            "tenantName": "ChirpStack",
            "applicationName": "Farm",
            "deviceProfileName": "LSN50v2",
            "deviceName": f"{name} {eui}",
            "devEui": eui,
            "tags": {},
        },
        "devAddr": "00189440",
        "adr": True,
        "dr": 5,
        "fCnt": i,
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -96, "snr": 10.5, "crcStatus": "CRC_OK"}],
        "txInfo": {"frequency": 867100000},
    } | rest
    return f"application/17c82e96-be03-4f38-aef3-f83d48582d97/device/{eui}/event/up", json.dumps(event)


def messages():
    for i in steps:
        value = 10 + i / 10
        pack = [
            {"bn": f"urn:dev:mac:{name}:", "bt": start + 10 * i, "n": "temp", "u": "K", "v": value + 273.15},
            {"n": "label", "vs": "north"},
        ]
        yield f"senml/{name}-json/up", json.dumps(pack)
        # Labels of RFC 8428, section 6: bn -2, bt -3, n 0, u 1, v 2.
        pack = [{-2: "urn:dev:mac:x:", -3: start + 10 * i, 0: "temp", 1: "Cel", 2: value}]
        yield f"senml/{name}-cbor/up", cbor2.dumps(pack)
        eui = name.encode().hex().rjust(16, "0")
        rest = {"fPort": 1, "data": "qg==", "object": {"TempC_DS": value, "BatV": 3.3, "rain_total": 5 + i / 5}}
        yield uplink(eui, i, rest)
        # Cayenne LPP: channel 1, type 103, a temperature in tenths.
        data = base64.b64encode(struct.pack(">BBh", 1, 103, round(value * 10))).decode()
        yield uplink(eui[:-1] + "f", i, {"fPort": 2, "data": data})
        yield f"farm/{name}/p1/up", json.dumps({"ts": start + 10 * i, "soil": {"20": {"vwc": value}, "40": {"vwc": -9999}}})


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"bridge-{name}")
client.username_pw_set(user, password)
client.connect(host, int(port))
client.loop_start()
sent = [client.publish(topic, payload, qos=1) for topic, payload in messages()]
for message in sent:
    try:
        message.wait_for_publish(timeout=30)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"not sent: {error}")
client.disconnect()
acknowledged = sum(message.is_published() for message in sent)
print(acknowledged)
sys.exit(0 if acknowledged == len(sent) else "the gateway did not acknowledge all of it")
