//! Programs that connect, publish one message and go, thousands of times, at a gateway that is a process of its own: each way
//! to the broker behind the door is another connection there.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rumqttc::mqttbytes::v4::{Packet, SubscribeReasonCode};

use crate::process::{self, client};
use crate::support::{GOODBYE, Raw, VERSIONS, acknowledge, until, within};

/// Programs that do it at a time.
const AT_A_TIME: u32 = 16;
/// Cycles before memory is looked at first, and after that.
const CYCLES: [u32; 2] = [1_000, 4_000];
/// What the broker may hold more after the latter: half of what it did when it kept the read buffer of each message.
const MORE_BYTES: u64 = 10 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_short_connections_lose_nothing_acknowledged_and_hold_no_memory() {
    let clients = ["viewer", "lamp"].map(|name| client(name, "subscriber")).concat();
    let gateway = process::Gateway::of(&clients, "").await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.mqtt));
    let mut viewer = Raw::connect(address, "viewer").await;
    assert_ne!(viewer.subscribe(&["lamp/+"]).await, [SubscribeReasonCode::Failure]);
    let seen = Arc::<Mutex<BTreeSet<u32>>>::default();
    let seeing = Arc::clone(&seen);
    let viewing = tokio::spawn(async move {
        loop {
            let Some(Packet::Publish(message)) = viewer.packet().await else { panic!("the viewer's end") };
            viewer.send(&acknowledge(message.pkid)).await;
            seeing.lock().unwrap().insert(u32::from_be_bytes(message.payload[..].try_into().unwrap()));
        }
    });

    let mut acknowledged = BTreeSet::new();
    let mut memory = Vec::new();
    let mut from = 0;
    for cycles in CYCLES {
        let lamps: Vec<_> = (0..AT_A_TIME)
            .map(|lamp| {
                tokio::spawn(async move {
                    let (version, id) = (VERSIONS[lamp as usize % 2], format!("lamp-{lamp}"));
                    let mut acknowledged = Vec::new();
                    for number in (from + lamp..from + cycles).step_by(AT_A_TIME as usize) {
                        let mut raw = version.connect(address, "lamp", &id).await;
                        raw.send(&version.publish("lamp/1", 1, &number.to_be_bytes())).await;
                        if raw.frame().await.is_some_and(|frame| frame[..4] == acknowledge(1)) {
                            acknowledged.push(number);
                        }
                        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &GOODBYE).await;
                    }
                    acknowledged
                })
            })
            .collect();
        for lamp in lamps {
            acknowledged.extend(within("a lamp", lamp).await.unwrap());
        }
        from += cycles;
        until("the viewer has all that was acknowledged", || seen.lock().unwrap().is_superset(&acknowledged)).await;
        memory.push(gateway.memory());
    }
    println!("it holds {memory:?} bytes after {CYCLES:?} cycles more each");
    // One that is cut is not acknowledged, and whoever sent it sends it again.
    let cut = from as usize - acknowledged.len();
    assert!(cut * 50 <= from as usize, "{cut} of {from} were cut");
    assert!(memory[1] < memory[0] + MORE_BYTES, "it holds {memory:?} bytes");
    viewing.abort();
}
