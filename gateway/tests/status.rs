//! The gateway's own page, as a person in the farmhouse reads it: one request, no script, no cloud.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use proto::UplinkBatch;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::net::TcpListener;

#[path = "support/process.rs"]
mod process;

use process::{Gateway, client, password};

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes with QoS 1, and waits for the PUBACK; false when the client is not let in.
async fn publish(gateway: &Gateway, name: &str, password: &str, topic: &str, payload: &str) -> bool {
    let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt);
    options.set_credentials(name, password);
    let (client, mut events) = AsyncClient::new(options, 4);
    client.try_publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
    let until = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(PATIENCE, until).await.expect("an answer")
}

/// The page, once it holds all of this.
async fn shows(gateway: &Gateway, parts: &[&str]) -> String {
    page_once(gateway, |page| parts.iter().all(|part| page.contains(part))).await
}

/// The page, once it is as it should be.
async fn page_once(gateway: &Gateway, is_right: impl Fn(&str) -> bool) -> String {
    let mut page = String::new();
    let wait = async {
        loop {
            page = gateway.get("/").await;
            if is_right(&page) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(came, "the page stayed like this:\n{page}");
    page
}

#[tokio::test]
async fn the_page_says_what_came_what_did_not_and_why() {
    let bridge = client("lab", "bridge") + "topics = [\"sensors/#\"]\n";
    let source = "[[source]]\nkind = \"senml\"\nname = \"lab\"\nprefix = \"lab-\"\ntopics = [\"sensors/{station}\"]\n";
    let gateway = Gateway::of(&(client("n1", "station") + &bridge), source).await;
    let page = shows(&gateway, &["No station has reported yet", "Nothing needs attention", "Nobody so far."]).await;
    assert!(!page.contains("<script"), "it needs no script");

    let data = "tilth/v1/f/n1/data";
    assert!(publish(&gateway, "n1", &password("n1"), data, r#"{"soil_moisture_20cm": 0.231}"#).await);
    assert!(
        publish(&gateway, "n1", &password("n1"), data, "{\"mud\": 1}").await,
        "what cannot be read is acknowledged too"
    );
    assert!(!publish(&gateway, "n1", "wrong", data, "{}").await);
    assert!(!publish(&gateway, "n2", &password("n2"), "tilth/v1/f/n2/data", "{}").await);
    assert!(!publish(&gateway, "n1", &password("n1"), "tilth/v1/f/n3/data", "{}").await);
    let pack = r#"[{"n":"turbidity","u":"NTU","v":3.5}]"#;
    assert!(publish(&gateway, "lab", &password("lab"), "sensors/probe7", pack).await);
    let parts = [
        "0.231",
        "unknown quantity &quot;mud&quot;",
        "refused: wrong password",
        "refused: nobody of that name is known",
        "it may not publish &quot;tilth/v1/f/n3/data&quot;",
        "Channels that nobody mapped",
        "turbidity",
        "soil-anomaly 1.0.0",
        "Store on disk",
        "No cloud is configured",
    ];
    shows(&gateway, &parts).await;
}

#[tokio::test]
async fn the_page_says_what_was_decided_for_each_field_and_why() {
    let gateway = Gateway::start(
        "[[field]]\nname = \"north\"\nstations = [\"n1\"]\nroot_depth_m = 0.6\ndepletion_fraction = 0.55\nsoil = \"loam\"\n\
         valves = [\"n2\"]\nauto = true\n[field.irrigation]\nkind = \"drip\"\napplication_mm_per_h = 6.0\nmax_minutes = 600\n\
         [[field]]\nname = \"south\"\nstations = [\"n2\"]\nroot_depth_m = 0.6\ndepletion_fraction = 0.55\nsoil = \"loam\"\n\
         [field.irrigation]\nkind = \"drip\"\napplication_mm_per_h = 6.0\nmax_minutes = 600\n",
    )
    .await;
    let page = shows(&gateway, &["Irrigation decisions"]).await;
    assert_eq!(row(&page, "north")[1..3], ["", "nothing yet"]);
    assert_eq!(row(&page, "south (advice)")[2], "nothing yet");

    let now = jiff::Timestamp::now();
    let reading = |minutes: i64| {
        let time = now - jiff::Span::new().minutes(minutes);
        let value = 0.2 + 0.0001 * (minutes / 5 % 2) as f64;
        format!(
            "{{\"time\": \"{time}\", \"soil_moisture_10cm\": {value}, \"soil_moisture_20cm\": {value}, \
             \"soil_moisture_40cm\": {value}}}"
        )
    };
    let readings: Vec<String> = (0..60).rev().step_by(5).map(reading).collect();
    assert!(publish(&gateway, "n1", &password("n1"), "tilth/v1/f/n1/data", &format!("[{}]", readings.join(","))).await);
    let page = page_once(&gateway, |page| row(page, "north")[2] != "nothing yet").await;
    // The windows after the one that it was decided at wait until the water has gone down.
    let [_, decided, what, why, valves] = row(&page, "north").try_into().unwrap();
    assert!(decided.ends_with(" ago"), "{decided}");
    assert!(what.starts_with("irrigate 4") || what == "hold: settling", "{what}");
    assert!(why.contains("48 mm") && why.contains("root zone"), "{why}");
    assert_eq!(valves.trim(), "n2 unconfirmed");
    assert_eq!(row(&page, "south (advice)")[2], "nothing yet");
}

/// A cloud that takes what the gateway says of itself, and batches while it is open.
async fn cloud(open: Arc<AtomicBool>) -> SocketAddr {
    let take = move |State(open): State<Arc<AtomicBool>>, body: Bytes| async move {
        if !open.load(Ordering::SeqCst) {
            return (StatusCode::SERVICE_UNAVAILABLE, "closed for the night".to_owned());
        }
        let batch = UplinkBatch::decode(&zstd::stream::decode_all(&*body).unwrap()).unwrap();
        (StatusCode::OK, format!("{{\"sequence\": {}}}", batch.last()))
    };
    let routes = Router::new()
        .route("/api/v1/uplink", post(take))
        .route("/api/v1/uplink/status", post(|| async { StatusCode::NO_CONTENT }))
        .with_state(open);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// The cells of the row that begins with `first`, without their tags.
fn row(page: &str, first: &str) -> Vec<String> {
    let start = page.find(&format!("<td>{first}</td>")).unwrap_or_else(|| panic!("no row {first:?}:\n{page}"));
    let row = &page[start..start + page[start..].find("</tr>").unwrap()];
    let cells = row.split("</td>").filter_map(|cell| cell.split_once("<td")?.1.split_once('>'));
    let tag = |text: &str| text.split('<').map(|t| t.rsplit('>').next().unwrap_or_default()).collect::<String>();
    cells.map(|(_, text)| tag(text)).collect()
}

#[tokio::test]
async fn the_page_says_what_waits_for_the_cloud_how_the_link_is_and_what_the_disk_holds() {
    let open = Arc::new(AtomicBool::new(false));
    let address = cloud(Arc::clone(&open)).await;
    let gateway = Gateway::start(&format!(
        "[cloud]\nurl = \"http://{address}\"\ntoken = \"t\"\n[uplink]\nbytes_per_hour = 4000000\nlinger_s = 0\n\
         [retention]\nraw_bytes = 2000000\nspool_bytes = 3000000\n",
    ))
    .await;
    let page = shows(&gateway, &["up</span> for", " for the last request"]).await;
    assert_eq!(row(&page, "Last error")[1], "none since the gateway was started");
    assert_eq!(row(&page, "Live windows")[1..], ["0", "–", "–", "–"]);

    // Three hours of readings: the windows of all but the last are closed, and the cloud does not take them.
    let now = jiff::Timestamp::now();
    let reading = |minutes: i64| {
        let time = now - jiff::Span::new().minutes(minutes);
        format!("{{\"time\": \"{time}\", \"soil_moisture_20cm\": 0.2{minutes:03}}}")
    };
    let readings: Vec<String> = (0..180).rev().step_by(5).map(reading).collect();
    assert!(publish(&gateway, "n1", &password("n1"), "tilth/v1/f/n1/data", &format!("[{}]", readings.join(","))).await);
    let page =
        shows(&gateway, &["away</span> for", "tries again after", "closed for the night", "the oldest is of"]).await;
    let live = row(&page, "Live windows");
    assert!(live[1].parse::<u32>().unwrap() >= 8, "{live:?}");
    assert!(live[2].ends_with(" s") || live[2].ends_with(" min"), "how long the oldest waits: {live:?}");
    let last_error = &row(&page, "Last error")[1];
    assert!(last_error.contains(" ago: 503") && last_error.contains("closed for the night"), "{last_error}");
    let sent = &row(&page, "Sent and received in the last hour")[1];
    assert!(sent.contains("kB of a budget of 4.0 MB an hour"), "{sent}");
    let at_once = &row(&page, "May go at once")[1];
    assert!(at_once.contains("kB of 1.0 MB") || at_once.contains("1.0 MB of 1.0 MB"), "{at_once}");

    let waiting = row(&page, "Waiting for the cloud");
    assert!(waiting[1] != "0 B" && waiting[2..] == ["3.0 MB", ""], "{waiting:?}");
    assert_eq!(row(&page, "Set aside for a full disk")[1..], ["8.4 MB", "8.4 MB", "whole"]);
    assert!(row(&page, "Free")[1].ends_with('B'));
    // The intake adds the raw readings up when it next looks at what may go.
    let page = page_once(&gateway, |page| row(page, "Raw readings")[1].ends_with('B')).await;
    assert_eq!(row(&page, "Raw readings")[2], "2.0 MB");

    open.store(true, Ordering::SeqCst);
    let page = page_once(&gateway, |page| row(page, "Live windows")[1] == "0" && !page.contains("tries again")).await;
    assert!(row(&page, "State")[1].starts_with("up for"));
    assert!(row(&page, "Last error")[1].contains("closed for the night"), "the last error stays");
}
