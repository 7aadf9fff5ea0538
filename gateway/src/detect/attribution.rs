//! Many questions to the models, asked in one batch each.

use std::collections::BTreeMap;

use proto::{Channel, Manifest, StationId, Timestamp};

use super::slots::{Comparison, Scores, Slots};
use super::station::Station;

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

/// Scores every request with every model that works. With `compare`, versions in shadow judge the requests that are for
/// all channels too.
pub fn run(
    models: &mut Slots,
    stations: &BTreeMap<StationId, Station>,
    requests: &[Request<'_>],
    end: Timestamp,
    compare: bool,
) -> Vec<Scores> {
    if requests.is_empty() {
        return Vec::new();
    }
    let comparison = compare
        .then(|| Comparison { samples: (0..requests.len()).filter(|n| requests[*n].only.is_none()).collect(), end });
    let fill = |n: usize, manifest: &Manifest, row: &mut [f32]| {
        let request: &Request<'_> = &requests[n];
        let Some(station) = stations.get(request.station) else { return };
        let lookup = |channel| station.known(channel).filter(|_| !request.hidden.contains(&channel));
        let lookup = |channel| {
            let known = lookup(channel);
            move |start| known.as_ref()?.stats(start)
        };
        proto::tensor::fill(&manifest.input, end, lookup, row);
    };
    models.score(requests.len(), &fill, comparison.as_ref())
}
