"""A Sparkplug B edge node with a valve, by pysparkplug: dry soil, and the command that follows.

    sparkplug_valve.py HOST PORT USER PASSWORD HOST_ID START

Node `Farm/edge3` has a device `probe`, which measures every ten seconds for five minutes from START (seconds since 1970), and a
device `valve`. The first command is lost on the way; the second is obeyed and told back. Ends well when both were the same, and
no more came after that.
"""

import sys
import threading

from pysparkplug import (
    Client,
    DData,
    DataType,
    Device,
    EdgeNode,
    MessageType,
    Metric,
    QoS,
    Topic,
)

host, port, user, password, host_id, start = sys.argv[1:7]
start = int(start)
PATIENCE = 30
# The gateway waits five seconds for the valve's word before it says it again.
QUIET = 8
MINUTES, NUMBER = "Irrigation/Minutes", "Irrigation/Number"
DEPTHS = (10, 20, 40)
online, commanded = threading.Event(), threading.Semaphore(0)
commands = []


def metric(name, datatype, value, at=start * 1000):
    return Metric(timestamp=at, name=name, datatype=datatype, value=value)


def state(_, message):
    if message.payload.online:
        online.set()


def command(_, message):
    commands.append({metric.name: metric.value for metric in message.payload.metrics})
    commanded.release()


client = Client(client_id="edge3", username=user, password=password)
node = EdgeNode("Farm", "edge3", [metric("Node Control/Rebirth", DataType.BOOLEAN, False)], client)
soil = [metric(f"Soil Moisture/{depth}cm", DataType.DOUBLE, None) for depth in DEPTHS]
node.register(Device("probe", soil))
node.register(Device("valve", [metric(MINUTES, DataType.INT32, 0), metric(NUMBER, DataType.INT64, 0)], command))
node.subscribe(Topic(message_type=MessageType.STATE, sparkplug_host_id=host_id), QoS.AT_LEAST_ONCE, state)
node.connect(host, port=int(port))
if not online.wait(PATIENCE):
    sys.exit("the host application did not say that it is online")


def publish(device, metrics, at):
    topic = Topic(group_id="Farm", message_type=MessageType.DDATA, edge_node_id="edge3", device_id=device)
    payload = DData(timestamp=at, seq=node._seq, metrics=tuple(metrics))
    sent = client._client.publish(str(topic), payload.encode(include_dtypes=True), qos=1)
    sent.wait_for_publish(PATIENCE)
    if not sent.is_published():
        sys.exit(f"{topic} is not acknowledged")


for i in range(31):
    at = (start + 10 * i) * 1000
    # Never quite the same, as a probe's values are.
    value = 0.2 + 0.0001 * (i % 2)
    publish("probe", [metric(f"Soil Moisture/{depth}cm", DataType.DOUBLE, value, at) for depth in DEPTHS], at)

for which in ("first", "second"):
    if not commanded.acquire(timeout=PATIENCE):
        sys.exit(f"the {which} command did not come")
first, second = commands
if first != second:
    sys.exit(f"another command the second time: {first}, {second}")
# 48 mm are missing, less 5 mm for rain, at 90 % and 6 mm/h: 478 min, in whole fives.
if set(first) != {MINUTES, NUMBER} or first[MINUTES] != 475:
    sys.exit(f"not what was to be commanded: {first}")
told = [metric(MINUTES, DataType.INT32, first[MINUTES]), metric(NUMBER, DataType.INT64, first[NUMBER])]
publish("valve", told, (start + 310) * 1000)
if commanded.acquire(timeout=QUIET):
    sys.exit(f"a command after it was carried out: {commands[2]}")
node.disconnect()
print("done")
