"""A Sparkplug B edge node, by pysparkplug: births, data by name and by alias, a gap in its numbers, and the rebirth that the
host application asks for then.

    sparkplug_node.py HOST PORT USER PASSWORD HOST_ID START

Node `Farm/edge1` measures the air, and its device `probe` the soil, every ten seconds for five minutes from START (seconds
since 1970). Ends well when the gateway said that it is online, acknowledged everything and asked for the rebirth.
"""

import itertools
import sys
import threading

from pysparkplug import (
    Client,
    DBirth,
    DData,
    DataType,
    Device,
    EdgeNode,
    MessageType,
    Metric,
    NBirth,
    NData,
    QoS,
    Topic,
)

host, port, user, password, host_id, start = sys.argv[1:7]
start = int(start)
PATIENCE = 30
online, rebirth_asked = threading.Event(), threading.Event()


def state(_, message):
    if message.payload.online:
        online.set()


def command(_, message):
    if any(metric.name == "Node Control/Rebirth" and metric.value is True for metric in message.payload.metrics):
        rebirth_asked.set()


def metric(name, value, at=None, alias=None, datatype=DataType.DOUBLE, late=False):
    return Metric(timestamp=at, name=name, datatype=datatype, value=value, alias=alias, is_historical=late)


client = Client(client_id="edge1", username=user, password=password)
node_metrics = [
    metric("Node Control/Rebirth", False, datatype=DataType.BOOLEAN),
    # No quantity of ours: it must be proposed, not dropped.
    metric("Enclosure Door", 0.0),
]
probe_metrics = [
    metric("Soil Moisture/20cm", None, alias=7, datatype=DataType.FLOAT),
    metric("Frost", None, alias=8, datatype=DataType.INT8),
]
node = EdgeNode("Farm", "edge1", node_metrics, client, command)
node.register(Device("probe", probe_metrics))
node.subscribe(Topic(message_type=MessageType.STATE, sparkplug_host_id=host_id), QoS.AT_LEAST_ONCE, state)
node.connect(host, port=int(port))
if not online.wait(PATIENCE):
    sys.exit("the host application did not say that it is online")


def publish(kind, payload, device=None):
    """With QoS 1, and not before the one before is acknowledged."""
    topic = Topic(group_id="Farm", message_type=kind, edge_node_id="edge1", device_id=device)
    birth = kind in (MessageType.NBIRTH, MessageType.DBIRTH)
    sent = client._client.publish(str(topic), payload.encode(include_dtypes=birth), qos=1)
    sent.wait_for_publish(PATIENCE)
    if not sent.is_published():
        sys.exit(f"{topic} is not acknowledged")


def measure(i):
    at = (start + 10 * i) * 1000
    air = [metric("Enclosure Door", float(i % 2), at)]
    publish(MessageType.NDATA, NData(timestamp=at, seq=node._seq, metrics=tuple(air)))
    soil = [
        metric(None, 0.25 + i / 64, alias=7, datatype=DataType.FLOAT),
        metric(None, -i, alias=8, datatype=DataType.INT8),
    ]
    publish(MessageType.DDATA, DData(timestamp=at, seq=node._seq, metrics=tuple(soil)), "probe")


def births():
    """What the standard wants after a rebirth request: all births, with numbers from 0, in the same session."""
    node._EdgeNode__seq_cycler = itertools.cycle(range(256))
    at = (start + 150) * 1000
    # pysparkplug has raised the number for the next session's will already.
    session = metric("bdSeq", 0, at, datatype=DataType.INT64)
    publish(MessageType.NBIRTH, NBirth(timestamp=at, seq=node._seq, metrics=(*node_metrics, session)))
    publish(MessageType.DBIRTH, DBirth(timestamp=at, seq=node._seq, metrics=tuple(probe_metrics)), "probe")


for i in range(15):
    measure(i)
if rebirth_asked.is_set():
    sys.exit("a rebirth was asked for without need")
# Three messages are lost on the way.
lost = [node._seq for _ in range(3)]
measure(15)
if not rebirth_asked.wait(PATIENCE):
    sys.exit("no rebirth was asked for after a gap")
births()
for i in range(16, 31):
    measure(i)
# What was measured without a connection comes last, with its own time: an hour before, and so too late for a window.
late = metric(None, 0.5, (start - 3600) * 1000, alias=7, datatype=DataType.FLOAT, late=True)
publish(MessageType.DDATA, DData(timestamp=(start + 300) * 1000, seq=node._seq, metrics=(late,)), "probe")
node.disconnect()
print("done")
