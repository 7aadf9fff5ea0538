//! The front door and the broker behind it, tried with real clients. A small pipeline stands in for the gateway's: each
//! test takes the deliveries itself, and decides when they are "on disk".
//!
//! What is known to be wrong with the libraries, and the test that shows that it does no harm here:
//!
//! | library | what is wrong | test |
//! | --- | --- | --- |
//! | rumqttd | one silent peer at its TLS port blocks all others | `strangers::silent_and_slow_strangers_are_sent_away_while_others_go_on` (our own TLS) |
//! | rumqttd | it has no topic ACL | `strangers::a_client_that_publishes_what_it_may_not_is_closed`, `hostile::what_no_client_may_do_ends_its_connection_only` |
//! | rumqttd | its PUBACK means "in memory" | `acknowledging::a_puback_goes_when_its_publish_is_stored_and_not_before` |
//! | rumqttd | a slow consumer loses messages | `acknowledging::a_slow_store_slows_its_stations_and_loses_nothing` (data never goes through it) |
//! | rumqttd | retained messages arrive incompletely | `behind::what_the_gateway_says_reaches_each_subscriber_whole_and_nothing_else_is_retained` (`Outbox::announce` keeps its own) |
//! | rumqttd | a link stalls when it is not told that it is ready | `behind::more_than_a_link_holds_comes_through_in_its_order` (ours only sends) |
//! | rumqttd | a will goes out at the wrong moment after a takeover | `acknowledging::the_same_client_again_takes_over` (wills are the door's) |
//! | rumqttd | short cycles are cut before their PUBACK | `hostile::a_disconnect_storm_delivers_each_acknowledged_message_once`, `cycles::thousands_of_short_connections_lose_nothing_acknowledged_and_hold_no_memory` |
//! | rumqttd | a connection that says goodbye is taken out twice | `mqtt5::properties_reach_subscribers_of_either_version` (a goodbye waits until the broker has dealt with what came before) |
//! | rumqttd | the router panics and its listener goes on | `behind::a_broken_broker_is_started_again_and_data_does_not_notice` |
//! | rumqttd | it may hang | `broker::tests::a_broker_that_hangs_is_noticed` |
//! | rumqttd | MQTT 5's properties and a subscriber of 3.1.1 panic it | `mqtt5::properties_reach_subscribers_of_either_version` |
//! | rumqttd | answers in another order end the connection | `mqtt5::a_subscriber_gets_no_more_at_once_than_it_takes_and_nothing_too_large` |
//! | rumqttd | messages pin read buffers | `frames::tests::no_buffer_is_held_between_frames` (what goes to it is copied), `cycles::thousands_of_short_connections_lose_nothing_acknowledged_and_hold_no_memory` |
//! | rumqttd | client ids may not hold `/ + # $`; no keep-alive 0; a port for each version | `hostile::silent_peers_cost_nothing` and `mqtt5` (it sees the door's ids, keep-alive and version only) |
//! | rumqttc | a reconnect drops what is in flight, or sends it to another connection | `external::nothing_is_lost_when_the_gateway_is_killed_and_the_broker_restarted` |
//! | rumqttc | it forgets subscriptions without a session | `external::nothing_is_lost_when_the_gateway_is_killed_and_the_broker_restarted` (subscribes at each connection) |
//! | rumqttc | it takes packets of 10 KiB by default | `external::a_large_message_comes_through` |
//! | rumqttc | `publish().await` where it is polled deadlocks | the same tests: only `try_…` is called, and polling has its own task |
#![allow(clippy::unwrap_used)]

mod acknowledging;
mod behind;
mod bridges;
mod cycles;
mod external;
mod hostile;
mod killed;
mod limits;
mod mqtt5;
#[path = "../support/process.rs"]
mod process;
mod strangers;
mod support;
