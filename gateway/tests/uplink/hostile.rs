//! Clouds that are ill, and what pretends to be one: the uplink goes on, says what is wrong, and sends everything once when it
//! is well again.

use std::time::Duration;

use gateway::uplink::UplinkConfig;
use tokio::net::TcpListener;

use crate::support::{Mood, Running, cloud, counts, now, place, spool, until, window};

/// A cloud of this mood is met often enough, the words tell what it does, nothing is lost, and all is well afterwards.
async fn survives(mood: Mood, words: &str) {
    let (cloud, address) = cloud().await;
    cloud.lock().unwrap().mood = mood;
    let (dir, mut store) = place();
    spool(&mut store, now(), (0..30).map(|n| window("n1", n)).collect());
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("it says what is wrong", || uplink.error().contains(words) || cloud.lock().unwrap().requests > 40).await;
    assert!(uplink.error().contains(words), "{:?}", uplink.error());
    assert!(!uplink.is_up());
    // A slow one stores what it does not say that it stored.
    assert!(mood == Mood::Slow || cloud.lock().unwrap().records.is_empty());
    spool(&mut store, now(), (30..60).map(|n| window("n1", n)).collect());
    cloud.lock().unwrap().mood = Mood::Well;
    until("everything is in the cloud", || counts(&cloud).len() == 60).await;
    assert!(counts(&cloud).values().all(|count| *count == 1), "{:?}", counts(&cloud));
    until("the link is up", || uplink.is_up()).await;
    until("nothing waits", || crate::support::waiting(dir.path()) == 0).await;
    uplink.end().await;
}

#[tokio::test]
async fn a_cloud_that_is_broken() {
    survives(Mood::Broken, "500 Internal Server Error: it broke").await;
}

#[tokio::test]
async fn a_network_that_answers_for_the_cloud() {
    survives(Mood::Nonsense, "a strange answer, 200 OK: <html>Welcome").await;
}

#[tokio::test]
async fn a_cloud_that_counts_wrongly() {
    survives(Mood::WrongSequence, r#"a strange answer, 200 OK: {"sequence":1000000}"#).await;
}

#[tokio::test]
async fn a_cloud_that_is_said_to_be_elsewhere_does_not_get_the_token_there() {
    survives(Mood::Elsewhere, "307 Temporary Redirect").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off() {
    survives(Mood::Truncated, "the answer broke off").await;
}

#[tokio::test]
async fn a_cloud_that_closes_at_once() {
    survives(Mood::Closes, "connection closed").await;
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read() {
    survives(Mood::Endless, "an answer of more than 65536 bytes").await;
}

#[tokio::test]
async fn a_cloud_that_never_answers() {
    survives(Mood::Silent, "no answer within 30 s").await;
}

#[tokio::test]
async fn a_cloud_that_answers_a_byte_a_second() {
    survives(Mood::Slow, "no answer within 30 s").await;
}

#[tokio::test]
async fn a_cloud_that_speaks_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (dir, mut store) = place();
    spool(&mut store, now(), vec![window("n1", 1)]);
    let uplink = Running::start(dir.path(), &format!("https://{address}"), UplinkConfig::default());
    until("it says what is wrong", || !uplink.error().is_empty()).await;
    assert!(uplink.error().to_lowercase().contains("corrupt"), "{}", uplink.error());
    uplink.end().await;
    assert_eq!(crate::support::waiting(dir.path()), 1);
}
