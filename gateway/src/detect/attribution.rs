//! Many questions to the models, asked in one batch each.

use std::collections::BTreeMap;

use proto::{Channel, StationId, Timestamp};

use super::model::LoadedModel;
use super::station::Station;

/// A model's opinion of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In shares of the threshold: 1.0 is where an alert becomes possible.
    pub value: f64,
    /// Which model: its place in the detector.
    pub model: usize,
    /// The model's name and version.
    pub label: String,
}

/// The scores of one station by channel. A channel that cannot be judged yet has none.
pub type Scores = BTreeMap<Channel, Score>;

/// One sample to score.
#[derive(Debug)]
pub struct Request<'a> {
    /// Whose history.
    pub station: &'a StationId,
    /// Channels that the model must not see.
    pub hidden: Vec<Channel>,
    /// The only channel whose score is wanted; all when none.
    pub only: Option<Channel>,
}

/// Scores every request with every model that has not failed; one batch a model. Where models overlap, the higher score
/// of a channel counts.
pub fn run(
    models: &mut [LoadedModel],
    stations: &BTreeMap<StationId, Station>,
    requests: &[Request<'_>],
    end: Timestamp,
) -> Vec<Scores> {
    let mut merged = vec![Scores::new(); requests.len()];
    if requests.is_empty() {
        return merged;
    }
    for (place, model) in models.iter_mut().enumerate().filter(|(_, m)| m.failure().is_none()) {
        let sample = model.sample_len();
        let mut input = vec![f32::NAN; requests.len() * sample];
        for (request, row) in requests.iter().zip(input.chunks_mut(sample)) {
            let Some(station) = stations.get(request.station) else { continue };
            let lookup =
                |start, channel| if request.hidden.contains(&channel) { None } else { station.known(start, channel) };
            proto::tensor::fill(&model.manifest().input, end, lookup, row);
        }
        let scores = match model.run(&input) {
            Ok(scores) => scores,
            Err(error) => {
                tracing::error!(%error, "a model failed and is no longer run");
                continue;
            }
        };
        let (threshold, label, channels) = (model.manifest().threshold, model.label(), &model.manifest().output.scores);
        for (merged, row) in merged.iter_mut().zip(scores.chunks(channels.len())) {
            for (channel, value) in channels.iter().zip(row) {
                let value = f64::from(*value) / threshold;
                if merged.get(channel).is_none_or(|known| known.value < value) {
                    merged.insert(*channel, Score { value, model: place, label: label.clone() });
                }
            }
        }
    }
    merged
}
