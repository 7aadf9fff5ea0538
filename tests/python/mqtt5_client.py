"""MQTT 5 by paho-mqtt, against a gateway's front door.

    mqtt5_client.py HOST PORT FARM STATION STATION_PASSWORD VIEWER VIEWER_PASSWORD

Prints as JSON what the door said and did. The station may publish its own readings, the viewer may subscribe.
"""

import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, farm, station, station_password, viewer, viewer_password = sys.argv[1:8]
PATIENCE = 60
topic = f"tilth/v1/{farm}/{station}/data"


class Client:
    """A client whose callbacks become queues."""

    def __init__(self, name, password, client_id=None, expiry=None, packet=None, receive=None, manual_ack=False):
        self.connacks, self.pubacks, self.subacks = queue.Queue(), queue.Queue(), queue.Queue()
        self.messages, self.ends = queue.Queue(), queue.Queue()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name if client_id is None else client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        self.client.username_pw_set(name, password)
        self.client.on_connect = lambda _c, _u, flags, reason, properties: self.connacks.put((flags, reason, properties))
        self.client.on_publish = lambda _c, _u, mid, reason, _p: self.pubacks.put((mid, reason))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.subacks.put(reasons)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.ends.put(reason)
        properties = Properties(PacketTypes.CONNECT)
        if expiry is not None:
            properties.SessionExpiryInterval = expiry
        if packet is not None:
            properties.MaximumPacketSize = packet
        if receive is not None:
            properties.ReceiveMaximum = receive
        self.client.connect(host, int(port), clean_start=False, properties=properties)
        self.client.loop_start()
        self.flags, self.reason, self.properties = self.connacks.get(timeout=PATIENCE)

    def publish(self, to, payload, properties=None):
        """The reason code of the PUBACK."""
        sent = self.client.publish(to, payload, qos=1, properties=properties)
        while True:
            mid, reason = self.pubacks.get(timeout=PATIENCE)
            if mid == sent.mid:
                return reason.value

    def subscribe(self, filters):
        self.client.subscribe([(one, mqtt.SubscribeOptions(qos=1)) for one in filters])
        return [reason.value for reason in self.subacks.get(timeout=PATIENCE)]

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def refused(*args, **kwargs):
    client = Client(*args, **kwargs)
    client.client.loop_stop()
    return client.reason.value


def reading(text):
    return json.dumps({"time": "2026-06-01T07:00:00Z", "soil_moisture_20cm": 0.2, "note": text})


said = {"refused": {
    "a wrong password": refused(station, "wrong"),
    "a name that nobody knows": refused("nobody", "wrong"),
    "the client id of another": refused(station, station_password, client_id=viewer),
}}

# What the door promises, and that a session ends with its connection, whatever is asked for.
subscriber = Client(viewer, viewer_password, client_id="viewer-1", expiry=3600)
properties = subscriber.properties
said["connack"] = {
    "reason": subscriber.reason.value,
    "session_expiry": properties.SessionExpiryInterval,
    "maximum_qos": properties.MaximumQoS,
    "maximum_packet": properties.MaximumPacketSize,
    "receive_maximum": properties.ReceiveMaximum,
}
said["subscribed"] = subscriber.subscribe([topic, "$share/group/" + topic])
subscriber.end()
subscriber = Client(viewer, viewer_password, client_id="viewer-1", expiry=3600)
said["session_present"] = subscriber.flags.session_present

# Not subscribed any more: the first message goes to nobody, the second comes with all its properties.
sensor = Client(station, station_password)
said["published"] = [sensor.publish(topic, reading("before"))]
subscriber.subscribe([topic])
properties = Properties(PacketTypes.PUBLISH)
properties.UserProperty = [("firmware", "1.4.2"), ("firmware", "süd"), ("", "")]
properties.ContentType = "application/json"
properties.MessageExpiryInterval = 600
said["published"].append(sensor.publish(topic, reading("after"), properties))
message = subscriber.messages.get(timeout=PATIENCE)
said["message"] = {
    "note": json.loads(message.payload)["note"],
    "user_properties": message.properties.UserProperty,
    "content_type": message.properties.ContentType,
}

# A topic of another station is refused by a reason, and the connection stays.
said["published"].append(sensor.publish(f"tilth/v1/{farm}/another/data", reading("not mine")))
said["published"].append(sensor.publish(topic, reading("mine")))
subscriber.messages.get(timeout=PATIENCE)

# The largest packet that a client takes: a larger one does not come, and those around it do.
small = Client(viewer, viewer_password, client_id="viewer-2", packet=300)
small.subscribe([topic])
for text in ["first", "x" * 400, "last"]:
    sensor.publish(topic, reading(text))
got = [json.loads(small.messages.get(timeout=PATIENCE).payload)["note"] for _ in range(2)]
said["small_packets"] = got
small.end()

# A client that takes one message before it has answered it: the next comes after its PUBACK.
slow = Client(viewer, viewer_password, client_id="viewer-3", receive=1, manual_ack=True)
slow.subscribe([topic])
for number in range(5):
    sensor.publish(topic, reading(str(number)))
order, at_once = [], 0
for _ in range(5):
    message = slow.messages.get(timeout=PATIENCE)
    try:
        slow.messages.get(timeout=0.5)
        at_once += 1
    except queue.Empty:
        pass
    order.append(json.loads(message.payload)["note"])
    slow.client.ack(message.mid, message.qos)
said["receive_maximum"] = {"order": order, "at_once": at_once}
slow.end()

# More than the door takes in one packet: it says why it ends the connection.
sensor.client.publish(topic, "x" * (said["connack"]["maximum_packet"] + 1), qos=1)
said["too_large"] = sensor.ends.get(timeout=PATIENCE).value
sensor.client.loop_stop()
subscriber.end()
print(json.dumps(said))
