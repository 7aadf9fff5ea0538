//! A station's node models: the firmware's [`Updater`], with the contract's names for its versions, channels and states.
//!
//! What must outlive a restart is given as bytes, which [`crate::store`] keeps for the node as its flash would.

use firmware::update::{Offer, State, Status, Updater};
use proto::node_model::Held;
use proto::{Channel, Command, NodeModelState, NodeModelStatus, NodeModelVersion};

/// The models of a station with these channels.
#[derive(Debug)]
pub struct Models {
    updater: Box<Updater>,
    names: Vec<String>,
    /// What was last said of it, but for the counts.
    said: (Status, bool),
    /// The watchdog bit, which is to be kept.
    bitten: bool,
}

impl Models {
    /// A station that was never given one.
    #[must_use]
    pub fn new(channels: &[Channel]) -> Self {
        Self::with(Updater::new(), names(channels))
    }

    /// What was kept before a restart; without any where that is no such thing.
    #[must_use]
    pub fn load(bytes: &[u8], channels: &[Channel]) -> Self {
        Self::loaded(bytes, names(channels))
    }

    fn loaded(bytes: &[u8], names: Vec<String>) -> Self {
        let updater = Updater::load(bytes, |name| index(&names, name)).unwrap_or_default();
        Self::with(updater, names)
    }

    fn with(updater: Updater, names: Vec<String>) -> Self {
        Self { said: standing(&updater), bitten: false, updater: Box::new(updater), names }
    }

    /// What was kept of them, in their place.
    pub fn restore(&mut self, bytes: &[u8]) {
        *self = Self::loaded(bytes, std::mem::take(&mut self.names));
    }

    /// The node starts anew with what is in its flash, after its watchdog had to reset it so often.
    pub fn restart(&mut self, watchdog_resets: u32) {
        let (said, kept) = (self.said, self.save());
        self.restore(&kept);
        (self.said, self.bitten) = (said, watchdog_resets > 0);
        for _ in 0..watchdog_resets {
            self.updater.watchdog_reset(|name| index(&self.names, name));
        }
    }

    /// What is to be kept.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.updater.save(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// Carries out a command about models, when it is one.
    pub fn obey(&mut self, command: &Command) {
        let (updater, names) = (&mut self.updater, &self.names);
        let index = |name: &str| index(names, name);
        match command {
            Command::OfferModel(offer) => {
                updater.offer(Offer { version: offer.version.code(), sha256: offer.sha256, size: offer.size });
            }
            Command::ModelChunk(chunk) => {
                updater.chunk(chunk.version.code(), chunk.offset, &chunk.bytes, index);
            }
            Command::ModelBack(back) => {
                updater.back(back.to.map_or(0, NodeModelVersion::code), back.from, index);
            }
            Command::Birth | Command::SetTime(_) | Command::Irrigate { .. } => {}
        }
    }

    /// The firmware's part, and which of the station's channels has a name.
    pub(crate) fn parts(&mut self) -> (&mut Updater, impl Fn(&str) -> Option<u8>) {
        (&mut self.updater, |name| index(&self.names, name))
    }

    /// Whether there is something to keep or to say that was not: another state, a probation that is over, or a reset.
    pub fn is_news(&mut self) -> bool {
        let now = standing(&self.updater);
        let moved = std::mem::replace(&mut self.said, now) != now;
        std::mem::take(&mut self.bitten) || moved
    }

    /// How they stand, for the gateway.
    #[must_use]
    pub fn status(&self) -> NodeModelStatus {
        let status = self.updater.status();
        let held = |code, mark| NodeModelVersion::from_code(code).map(|version| Held { version, mark });
        NodeModelStatus {
            active: held(status.active, status.active_mark),
            previous: NodeModelVersion::from_code(status.previous),
            candidate: held(status.candidate, status.candidate_mark),
            offset: status.offset,
            state: match status.state {
                State::Idle => NodeModelState::Idle,
                State::Receiving => NodeModelState::Receiving,
                State::Active => NodeModelState::Active,
                State::RolledBack => NodeModelState::RolledBack,
                State::Refused => NodeModelState::Refused,
            },
            reason: status.reason.name().to_owned(),
            alerts: status.alerts,
            judged: status.judged,
            on_probation: status.active != 0 && self.updater.on_probation(),
        }
    }
}

fn standing(updater: &Updater) -> (Status, bool) {
    (Status { alerts: 0, judged: 0, ..updater.status() }, updater.on_probation())
}

fn names(channels: &[Channel]) -> Vec<String> {
    channels.iter().map(ToString::to_string).collect()
}

/// Which of a station's channels has a name.
fn index(names: &[String], name: &str) -> Option<u8> {
    names.iter().position(|known| known == name).and_then(|at| u8::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use firmware::model::{MAX_CHANNELS, MAX_STEPS, Model};
    use proptest::prelude::*;
    use proto::node_model::{Layer, mark};
    use proto::{NodeModelChunk, NodeModelFile, NodeModelOffer, Quantity};

    use super::*;

    const CHANNELS: [Channel; 2] =
        [Channel::at(Quantity::SoilMoisture, 20), Channel::at(Quantity::SoilTemperature, 10)];

    fn any_file() -> impl Strategy<Value = NodeModelFile> {
        (1usize..=2, 2usize..=6, 1usize..=8).prop_flat_map(|(channels, steps, hidden)| {
            let layer = |rows: usize, width: usize| {
                let weights = prop::collection::vec(prop::collection::vec(any::<i8>(), width), rows);
                let biases = prop::collection::vec(-20_000i32..20_000, rows);
                (weights, biases, 1e-5f32..0.05).prop_map(|(weights, biases, multiplier)| Layer {
                    weights,
                    biases,
                    multiplier,
                })
            };
            (
                layer(hidden, channels * steps),
                layer(channels, hidden),
                prop::collection::vec((-50f32..50.0, 0.1f32..40.0), channels),
                prop::collection::vec(0.1f32..10.0, channels),
                prop::collection::vec(-127i8..=127, channels * steps),
                1u32..,
            )
                .prop_map(move |(first, second, normal, thresholds, golden, code)| NodeModelFile {
                    version: NodeModelVersion::from_code(code).unwrap(),
                    channels: CHANNELS[..channels].to_vec(),
                    steps,
                    normal,
                    first,
                    second,
                    thresholds,
                    golden,
                })
        })
    }

    proptest! {
        /// What the contract writes the firmware reads, and both compute the same.
        #[test]
        fn contract_and_firmware_agree_on_every_file(
            file in any_file(),
            values in prop::collection::vec(-100f64..100.0, 2 * MAX_STEPS),
        ) {
            let bytes = file.encode().unwrap();
            let model = Model::read(&bytes).unwrap();
            prop_assert_eq!(model.layout().version(), file.version.code());
            prop_assert!(model.names().eq(file.channels.iter().map(ToString::to_string)));
            let mut input = [0; MAX_CHANNELS * MAX_STEPS];
            let length = file.channels.len() * file.steps;
            for (at, value) in input.iter_mut().zip(&values).take(length).map(|(at, value)| (at, *value)) {
                *at = file.normalise(0, value);
                prop_assert_eq!(*at, model.normalise(0, value));
            }
            prop_assert_eq!(&file.predict(&input[..length])[..], &model.predict(&input)[..file.channels.len()]);
        }
    }

    #[test]
    fn a_model_comes_is_kept_judges_and_is_told_of() {
        let file = NodeModelFile::persistence("1.2.3".parse().unwrap(), &CHANNELS[..1], vec![(0.3, 0.1)], 2);
        let bytes = file.encode().unwrap();
        let sha256: [u8; 32] = sha2_of(&bytes);
        let mut models = Models::new(&CHANNELS);
        assert!(!models.is_news());
        models.obey(&Command::OfferModel(NodeModelOffer { version: file.version, sha256, size: bytes.len() as u32 }));
        assert!(models.is_news() && !models.is_news());
        for (number, piece) in bytes.chunks(40).enumerate() {
            models = Models::load(&models.save(), &CHANNELS);
            let status = models.status();
            assert_eq!((status.state, status.offset), (NodeModelState::Receiving, 40 * number as u32));
            let (version, offset) = (file.version, status.offset);
            models.obey(&Command::ModelChunk(NodeModelChunk { version, offset, bytes: piece.to_vec() }));
            assert!(models.is_news());
        }
        let status = models.status();
        assert_eq!(status.active, Some(Held { version: file.version, mark: mark(&sha256) }));
        assert_eq!((status.state, status.reason.as_str()), (NodeModelState::Active, ""));
        // A restart takes the samples before it, and the watchdog the model, if it bites three times.
        for resets in [0, 1, 1] {
            models.restart(resets);
            assert!(models.is_news() == (resets > 0) && models.status().active.is_some());
        }
        let mut bitten = Models::load(&models.save(), &CHANNELS);
        bitten.restart(1);
        let status = bitten.status();
        assert_eq!(
            (status.active, status.state, status.reason.as_str()),
            (None, NodeModelState::RolledBack, "watchdog")
        );
        assert!(bitten.is_news());
        let mut judge = |value| {
            let (updater, index) = models.parts();
            updater.judge(|channel| (channel == 0).then_some(value), index).map(|verdict| verdict.alert)
        };
        assert_eq!([0.2, 0.21, 0.4, 0.4].map(&mut judge), [None, Some(false), Some(true), Some(false)]);
        assert_eq!((models.status().judged, models.status().alerts), (3, 1));
        assert!(!models.is_news(), "counts alone are no news");
    }

    fn sha2_of(bytes: &[u8]) -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(bytes).into()
    }
}
