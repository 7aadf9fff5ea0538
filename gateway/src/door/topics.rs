//! Who may publish and subscribe to what. Pure.

use std::sync::Arc;

use proto::{FarmId, StationId, TopicKind};
use rumqttc::mqttbytes::{valid_filter, valid_topic};

use super::delivery::DeliveryKind;
use crate::broker::PROBE_TOPIC;
use crate::decode::source::{Routes, filter};

/// Where a publish goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// To the pipeline.
    Pipeline(DeliveryKind),
    /// To the broker.
    Broker,
    /// Nowhere.
    Refused,
}

/// Where a subscription is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscribing {
    /// At the door: the station's own messages of a kind.
    Door(TopicKind),
    /// At the broker.
    Broker {
        /// Whether what ends at the door matches it, so that it must be handed on.
        stations: bool,
    },
    /// Nowhere.
    Refused,
}

/// What a client is, to the topics.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// A station; `tilth/v1/{farm}/{station}/` is its own.
    Station {
        /// The own topics' beginning, with the last `/`.
        own: String,
    },
    /// Another program.
    Program,
    /// What brings messages of sources.
    Bridge {
        /// The filters within which it publishes and subscribes.
        topics: Arc<[String]>,
    },
}

impl Identity {
    /// A station's.
    pub fn station(farm: &FarmId, station: &StationId) -> Self {
        Self::Station { own: format!("{}/{farm}/{station}/", proto::topic::PREFIX) }
    }

    /// Where a publish on `topic` goes. A station publishes its own birth, data and status, and nothing else; nobody
    /// publishes any other topic of ours. What a source has for itself is published by bridges alone, each within its own
    /// topics, and a command to what is behind a source by the gateway alone.
    pub fn publishing(&self, topic: &str, routes: &Routes) -> Publishing {
        if let Self::Station { own } = self
            && let Some(kind) = topic.strip_prefix(own.as_str())
        {
            return match kind {
                "data" => Publishing::Pipeline(DeliveryKind::Data),
                "birth" => Publishing::Pipeline(DeliveryKind::Birth),
                "status" => Publishing::Pipeline(DeliveryKind::Status),
                _ => Publishing::Refused,
            };
        }
        let free = is_plain(topic) && valid_topic(topic) && !is_ours(topic) && topic != PROBE_TOPIC;
        match self {
            Self::Bridge { topics } if free && topics.iter().any(|own| filter::matches(own, topic)) => {
                if routes.takes(topic) {
                    Publishing::Pipeline(DeliveryKind::Foreign)
                } else if routes.commands(topic) {
                    Publishing::Refused
                } else {
                    Publishing::Broker
                }
            }
            Self::Program if free && !routes.reserves(topic) => Publishing::Broker,
            _ => Publishing::Refused,
        }
    }

    /// Where a subscription to `filter` is served. A station sees its own acks and commands and nothing else; a program
    /// sees everything, a bridge what lies within its topics. Shared and system topics (`$…`) are for nobody.
    pub fn subscribing(&self, filter: &str, routes: &Routes) -> Subscribing {
        if !is_plain(filter) || !valid_filter(filter) {
            return Subscribing::Refused;
        }
        let at_broker = || Subscribing::Broker { stations: meets_ours(filter) || routes.meets(filter) };
        match self {
            Self::Station { own } => match filter.strip_prefix(own.as_str()) {
                Some("ack") => Subscribing::Door(TopicKind::Ack),
                Some("command") => Subscribing::Door(TopicKind::Command),
                _ => Subscribing::Refused,
            },
            Self::Program => at_broker(),
            Self::Bridge { topics } if topics.iter().any(|own| filter::covers(own, filter)) => at_broker(),
            Self::Bridge { .. } => Subscribing::Refused,
        }
    }
}

/// Whether the broker may see it. It panics at a topic that begins with more than one byte's character, and keeps what
/// begins with `$` to itself.
fn is_plain(topic: &str) -> bool {
    topic.bytes().next().is_some_and(|first| first.is_ascii() && first != b'$') && !topic.contains('\0')
}

/// Whether a topic lies under ours.
fn is_ours(topic: &str) -> bool {
    topic.strip_prefix(proto::topic::PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a topic of ours can match a filter.
pub(crate) fn meets_ours(filter: &str) -> bool {
    let mut filter = filter.split('/');
    for level in proto::topic::PREFIX.split('/') {
        match filter.next() {
            Some("#") => return true,
            Some("+") => {}
            Some(other) if other == level => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station() -> Identity {
        Identity::station(&"f".parse().unwrap(), &"n1".parse().unwrap())
    }

    fn bridge() -> Identity {
        Identity::Bridge { topics: Arc::from(["spBv1.0/G/+/e1/#".to_owned(), "spBv1.0/STATE/#".to_owned()]) }
    }

    fn routes() -> Routes {
        let source: crate::decode::source::SourceConfig = toml::from_str("kind = \"sparkplug\"").unwrap();
        Routes::new(&[source])
    }

    #[test]
    fn a_station_publishes_under_its_own_name_only() {
        use Publishing::{Broker, Pipeline, Refused};
        for (topic, expected) in [
            ("tilth/v1/f/n1/data", Pipeline(DeliveryKind::Data)),
            ("tilth/v1/f/n1/birth", Pipeline(DeliveryKind::Birth)),
            ("tilth/v1/f/n1/status", Pipeline(DeliveryKind::Status)),
            ("tilth/v1/f/n1/ack", Refused),
            ("tilth/v1/f/n1/command", Refused),
            ("tilth/v1/f/n1/data/more", Refused),
            ("tilth/v1/f/n2/data", Refused),
            ("tilth/v1/g/n1/data", Refused),
            ("tilth/v1", Refused),
            ("tilth/v10/f", Refused),
            ("weather/now", Refused),
            ("weather/+", Refused),
            ("$SYS/x", Refused),
            (PROBE_TOPIC, Refused),
            ("ähre/x", Refused),
            ("a\0b", Refused),
            ("", Refused),
        ] {
            assert_eq!(station().publishing(topic, &routes()), expected, "{topic:?}");
        }
        assert_eq!(Identity::Program.publishing("tilth/v1/f/n1/data", &routes()), Refused);
        assert_eq!(Identity::Program.publishing("tilth/v1/f/n1/command", &routes()), Refused);
        assert_eq!(Identity::Program.publishing("lamp/1", &routes()), Broker);
    }

    #[test]
    fn what_a_source_has_for_itself_is_published_by_bridges_alone_and_commands_by_nobody() {
        use Publishing::{Broker, Pipeline, Refused};
        for (topic, by_bridge, by_others) in [
            ("spBv1.0/G/NDATA/e1", Pipeline(DeliveryKind::Foreign), Refused),
            ("spBv1.0/G/DBIRTH/e1/d", Pipeline(DeliveryKind::Foreign), Refused),
            ("spBv1.0/G/NDATA/e2", Refused, Refused),
            ("spBv1.0/G/NCMD/e1", Refused, Refused),
            ("spBv1.0/G/DCMD/e1/valve", Refused, Refused),
            ("spBv1.0/G/NCMD/e2", Refused, Refused),
            ("spBv1.0/STATE/another", Broker, Refused),
            ("spBv1.0/G/OTHER/e1", Broker, Refused),
            ("spBv1.0", Refused, Refused),
            ("tilth/v1/f/n1/data", Refused, Refused),
            ("weather/now", Refused, Broker),
        ] {
            assert_eq!(bridge().publishing(topic, &routes()), by_bridge, "bridge, {topic}");
            assert_eq!(Identity::Program.publishing(topic, &routes()), by_others, "program, {topic}");
            assert_eq!(
                station().publishing(topic, &routes()) == Refused,
                topic != "tilth/v1/f/n1/data",
                "station, {topic}"
            );
        }
        let without = Routes::default();
        assert_eq!(Identity::Program.publishing("spBv1.0/G/NCMD/e1", &without), Broker, "nobody reads Sparkplug here");
        for (filter, expected) in [
            ("spBv1.0/G/NCMD/e1", Subscribing::Broker { stations: false }),
            ("spBv1.0/G/NDATA/e1", Subscribing::Broker { stations: true }),
            ("spBv1.0/STATE/h1", Subscribing::Broker { stations: false }),
            // A group might be called STATE.
            ("spBv1.0/STATE/#", Subscribing::Broker { stations: true }),
            ("spBv1.0/+/NCMD/e1", Subscribing::Refused),
            ("spBv1.0/#", Subscribing::Refused),
            ("#", Subscribing::Refused),
            ("tilth/v1/f/n1/data", Subscribing::Refused),
        ] {
            assert_eq!(bridge().subscribing(filter, &routes()), expected, "{filter}");
        }
        assert_eq!(station().subscribing("spBv1.0/#", &routes()), Subscribing::Refused, "others' readings");
        assert_eq!(Identity::Program.subscribing("spBv1.0/#", &routes()), Subscribing::Broker { stations: true });
    }

    #[test]
    fn subscriptions_are_served_where_their_messages_are() {
        use Subscribing::{Broker, Door, Refused};
        let (with, without) = (Broker { stations: true }, Broker { stations: false });
        for (filter, for_station, for_program) in [
            ("tilth/v1/f/n1/ack", Door(TopicKind::Ack), with),
            ("tilth/v1/f/n1/command", Door(TopicKind::Command), with),
            ("tilth/v1/f/n1/data", Refused, with),
            ("tilth/v1/f/n1/#", Refused, with),
            ("tilth/v1/f/n2/ack", Refused, with),
            ("tilth/v1/#", Refused, with),
            ("tilth/#", Refused, with),
            ("tilth/v1", Refused, with),
            ("+/+/f/#", Refused, with),
            ("#", Refused, with),
            ("+", Refused, without),
            ("+/v2/#", Refused, without),
            ("tilth/v2/#", Refused, without),
            ("weather/#", Refused, without),
            ("$share/g/tilth/v1/f/+/data", Refused, Refused),
            ("$share/g/weather", Refused, Refused),
            ("$SYS/#", Refused, Refused),
            ("weather/#/x", Refused, Refused),
            ("über/x", Refused, Refused),
            ("", Refused, Refused),
        ] {
            assert_eq!(station().subscribing(filter, &Routes::default()), for_station, "station, {filter:?}");
            assert_eq!(Identity::Program.subscribing(filter, &Routes::default()), for_program, "program, {filter:?}");
        }
    }
}
