//! Who may publish and subscribe to what. Pure.

use proto::{FarmId, StationId, TopicKind};
use rumqttc::mqttbytes::{valid_filter, valid_topic};

use super::delivery::DeliveryKind;
use crate::broker::PROBE_TOPIC;

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
        /// Whether stations' topics match it, so that their data must be handed on.
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
}

impl Identity {
    /// A station's.
    pub fn station(farm: &FarmId, station: &StationId) -> Self {
        Self::Station { own: format!("{}/{farm}/{station}/", proto::topic::PREFIX) }
    }

    /// Where a publish on `topic` goes. A station publishes its own birth, data and status; nobody publishes any other
    /// topic of ours.
    pub fn publishing(&self, topic: &str) -> Publishing {
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
        let for_broker = is_plain(topic) && valid_topic(topic) && !is_ours(topic) && topic != PROBE_TOPIC;
        if for_broker { Publishing::Broker } else { Publishing::Refused }
    }

    /// Where a subscription to `filter` is served. A station sees its own acks and commands and nothing else of ours; a
    /// program sees everything. Shared and system topics (`$…`) are for nobody.
    pub fn subscribing(&self, filter: &str) -> Subscribing {
        if !is_plain(filter) || !valid_filter(filter) {
            return Subscribing::Refused;
        }
        let stations = meets_ours(filter);
        match self {
            Self::Station { own } => match filter.strip_prefix(own.as_str()) {
                Some("ack") => Subscribing::Door(TopicKind::Ack),
                Some("command") => Subscribing::Door(TopicKind::Command),
                _ if stations => Subscribing::Refused,
                _ => Subscribing::Broker { stations },
            },
            Self::Program => Subscribing::Broker { stations },
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
fn meets_ours(filter: &str) -> bool {
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
            ("tilth/v10/f", Broker),
            ("weather/now", Broker),
            ("weather/+", Refused),
            ("$SYS/x", Refused),
            (PROBE_TOPIC, Refused),
            ("ähre/x", Refused),
            ("a\0b", Refused),
            ("", Refused),
        ] {
            assert_eq!(station().publishing(topic), expected, "{topic:?}");
        }
        assert_eq!(Identity::Program.publishing("tilth/v1/f/n1/data"), Refused);
        assert_eq!(Identity::Program.publishing("tilth/v1/f/n1/command"), Refused);
        assert_eq!(Identity::Program.publishing("lamp/1"), Broker);
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
            ("+", without, without),
            ("+/v2/#", without, without),
            ("tilth/v2/#", without, without),
            ("weather/#", without, without),
            ("$share/g/tilth/v1/f/+/data", Refused, Refused),
            ("$share/g/weather", Refused, Refused),
            ("$SYS/#", Refused, Refused),
            ("weather/#/x", Refused, Refused),
            ("über/x", Refused, Refused),
            ("", Refused, Refused),
        ] {
            assert_eq!(station().subscribing(filter), for_station, "station, {filter:?}");
            assert_eq!(Identity::Program.subscribing(filter), for_program, "program, {filter:?}");
        }
    }
}
