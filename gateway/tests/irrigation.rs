//! A dry field and its valve: the gateway as a process of its own, real MQTT clients, and `kill -9` in between.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proto::decision::Cause;
use proto::{
    Batch, Birth, Channel, Command, CommandMessage, Decision, Lane, Quantity, Reading, Record, Status, Timestamp,
};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};

#[path = "support/process.rs"]
mod process;

use process::{Gateway, password, until, within};

const MINUTE: i64 = 60_000;

/// A field: its probes are station n1, its valve is station n2.
const FIELD: &str = r#"
[[field]]
name = "north"
stations = ["n1"]
root_depth_m = 0.6
depletion_fraction = 0.55
soil = "loam"
valves = ["n2"]
auto = true
[field.irrigation]
kind = "drip"
application_mm_per_h = 6.0
max_minutes = 600
"#;

/// What waits for the cloud in a lane.
fn spooled(gateway: &Gateway, lane: Lane) -> Vec<Record> {
    let store = rusqlite::Connection::open(gateway.data().join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT body FROM spool WHERE lane = ?1 ORDER BY id").unwrap();
    let bodies = statement.query_map([lane as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    bodies.map(|body| Record::decode(&body.unwrap()).unwrap()).collect()
}

fn decisions(gateway: &Gateway) -> Vec<Decision> {
    let decision = |record| if let Record::Decision(decision) = record { Some(decision) } else { None };
    spooled(gateway, Lane::Decisions).into_iter().filter_map(decision).collect()
}

fn irrigations(gateway: &Gateway) -> Vec<Decision> {
    decisions(gateway).into_iter().filter(|decision| decision.cause == Cause::Due).collect()
}

struct Station {
    name: &'static str,
    client: AsyncClient,
    events: EventLoop,
}

impl Station {
    /// Connects, and listens for commands.
    async fn connect(name: &'static str, gateway: &Gateway) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt);
        options.set_credentials(name, password(name)).set_keep_alive(Duration::from_secs(30));
        let (client, events) = AsyncClient::new(options, 64);
        let mut station = Self { name, client, events };
        station.client.subscribe(station.topic("command"), QoS::AtLeastOnce).await.unwrap();
        within("a SUBACK", async {
            while !matches!(station.events.poll().await.unwrap(), Event::Incoming(Incoming::SubAck(_))) {}
        })
        .await;
        station
    }

    fn topic(&self, kind: &str) -> String {
        format!("tilth/v1/f/{}/{kind}", self.name)
    }

    /// Publishes and waits for the PUBACK.
    async fn publish(&mut self, kind: &str, payload: Vec<u8>) {
        self.client.publish(self.topic(kind), QoS::AtLeastOnce, false, payload).await.unwrap();
        within("a PUBACK", async {
            while !matches!(self.events.poll().await.unwrap(), Event::Incoming(Incoming::PubAck(_))) {}
        })
        .await;
    }

    async fn command(&mut self) -> CommandMessage {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = self.events.poll().await.unwrap() {
                return CommandMessage::decode(&publish.payload).unwrap();
            }
        }
    }
}

const DEPTHS: [u16; 3] = [10, 20, 40];

fn birth() -> Birth {
    Birth {
        boot: 1,
        firmware: "1.0".to_owned(),
        interval_s: 300,
        report_s: 900,
        channels: DEPTHS.map(|depth| Channel::at(Quantity::SoilMoisture, depth)).to_vec(),
        field: None,
        latitude: None,
        longitude: None,
    }
}

/// The batch of a quarter of an hour: loam at 0.2 m3/m3.
fn dry(start: Timestamp, sequence: u64) -> Batch {
    let readings = (0..3).flat_map(|i| {
        let n = sequence as i64 * 3 + i;
        let time = start.plus_millis(n * 5 * MINUTE);
        // Not the same value for hours.
        let value = Quantity::SoilMoisture.quantise(0.2 + 0.0001 * (n % 2) as f64);
        DEPTHS.map(|depth| Reading { channel: Channel::at(Quantity::SoilMoisture, depth), time, value })
    });
    Batch { boot: 1, sequence, readings: readings.collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_field_is_irrigated_once_whatever_is_killed() {
    let start = Timestamp::from_jiff(jiff::Timestamp::now()).plus_millis(-150 * MINUTE).floor_to(900);
    let (mut steady, mut killed) = (Gateway::start(FIELD).await, Gateway::start(FIELD).await);
    let mut probes = Station::connect("n1", &steady).await;
    probes.publish("birth", birth().encode()).await;
    for sequence in 1..=9 {
        probes.publish("data", dry(start, sequence).encode().unwrap()).await;
    }
    until("windows", || spooled(&steady, Lane::Aggregates).len() >= 8).await;
    steady.kill();

    for sequence in 1..=6 {
        let mut probes = Station::connect("n1", &killed).await;
        probes.publish("birth", birth().encode()).await;
        probes.publish("data", dry(start, sequence).encode().unwrap()).await;
        killed.kill();
        killed.again().await;
    }
    until("a decision", || !irrigations(&killed).is_empty()).await;

    // Its valve comes late, and answers only when it is asked again, by a gateway that was killed meanwhile.
    let mut valve = Station::connect("n2", &killed).await;
    let command = within("a command", valve.command()).await;
    assert_eq!(within("the command again", valve.command()).await, command);
    killed.kill();
    killed.again().await;
    let mut valve = Station::connect("n2", &killed).await;
    assert_eq!(within("the command again", valve.command()).await, command);
    let done = Status { online: true, boot: 1, irrigated: Some(command.id), model: None };
    valve.publish("status", done.encode()).await;

    // From then on there is none, also after another kill, while the field is still dry.
    let windows = spooled(&killed, Lane::Aggregates).len();
    let mut probes = Station::connect("n1", &killed).await;
    probes.publish("data", dry(start, 7).encode().unwrap()).await;
    until("the next window", || spooled(&killed, Lane::Aggregates).len() > windows).await;
    killed.kill();
    killed.again().await;
    let mut valve = Station::connect("n2", &killed).await;
    let mut probes = Station::connect("n1", &killed).await;
    for sequence in 8..=9 {
        probes.publish("data", dry(start, sequence).encode().unwrap()).await;
    }
    until("the windows after it", || spooled(&killed, Lane::Aggregates).len() >= 8).await;
    let quiet = tokio::time::timeout(Duration::from_secs(2), valve.command()).await;
    assert!(quiet.is_err(), "a command after it was carried out: {quiet:?}");

    // It is told when it is made, and again when its valve has carried it out.
    let (due, done): (Vec<_>, Vec<_>) = irrigations(&killed).into_iter().partition(|told| told.confirmed.is_empty());
    assert_eq!((due.len(), &due), (1, &irrigations(&steady)), "once, and the same as without a kill");
    assert_eq!(done.iter().map(|told| &told.id).collect::<Vec<_>>(), [&due[0].id]);
    let run = due[0].run.unwrap();
    // 48 mm less 5 mm at 90 % and 6 mm/h: 478 min, in whole fives.
    assert_eq!((run.minutes, due[0].inputs.probes, due[0].stations[0].as_str()), (475, 3, "n2"));
    let wanted = CommandMessage {
        id: due[0].at.as_millis().unsigned_abs(),
        command: Command::Irrigate { minutes: run.minutes },
    };
    assert_eq!(command, wanted);
    let made = decisions(&killed).into_iter().filter(|told| told.confirmed.is_empty());
    let causes: Vec<Cause> = made.map(|decision| decision.cause).collect();
    assert!(causes[1..].iter().all(|cause| *cause == Cause::Settling), "{causes:?}");
}
