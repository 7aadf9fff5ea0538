//! What the farm's nodes are to run, as the registry signs it. A file of a few kilobytes comes whole; what breaks off is
//! fetched again with the next look at the registry.

use std::sync::Arc;

use proto::node_model::MAX_BYTES;
use proto::rollout::{MAX_ROLLOUT_BYTES, node_model_target};
use proto::update::Reason;
use proto::{NodeModelFile, NodeRollout};

use crate::nodes::Wanted;
use crate::update::refused::Refused;
use crate::update::source::{Metadata, Source};

/// Reads a rollout and its file; none when the registry has none for this farm. What was there before stays until something
/// true has come in its place.
pub(super) async fn wanted(
    source: &Source,
    metadata: &Metadata,
    target: &str,
    known: Option<Wanted>,
) -> Option<Wanted> {
    let found = metadata.find(target)?;
    let known_rollout = known.as_ref().filter(|known| known.target == found.sha256);
    if known_rollout.is_some_and(|known| known.file.is_ok()) {
        return known;
    }
    let rollout = match known_rollout {
        Some(known) => Ok(known.rollout.clone()),
        None => source.target(&found, MAX_ROLLOUT_BYTES).await.and_then(|body| {
            NodeRollout::parse(&body)
                .map_err(|wrong| Refused::new(Reason::Assignment, format!("{target}: {}", wrong.join("; "))))
        }),
    };
    let rollout = match rollout {
        Ok(rollout) => rollout,
        Err(refused) => {
            tracing::warn!(reason = refused.reason.name(), text = refused.text, "a rollout for nodes is refused");
            return known;
        }
    };
    // Another stage of the same model.
    let same = known.filter(|known| known.rollout.sha256 == rollout.sha256).and_then(|known| known.file.ok());
    let file = match same {
        Some(file) => Ok(file),
        None => file(source, metadata, &rollout).await.map_err(|refused| {
            tracing::warn!(reason = refused.reason.name(), text = refused.text, "a node's model is refused");
            format!("{}: {}", refused.reason, refused.text)
        }),
    };
    Some(Wanted { rollout, target: found.sha256, file })
}

/// The file that a rollout names: what is signed under its name, of the digest that it says, and a model of its version.
async fn file(source: &Source, metadata: &Metadata, rollout: &NodeRollout) -> Result<Arc<[u8]>, Refused> {
    let version = rollout.version.to_string();
    let target = node_model_target(&rollout.name, rollout.version);
    let found = metadata.find_of(&target, "node-model", &rollout.name, &version)?;
    if found.sha256 != rollout.sha256 {
        let text = format!("{target}: sha256 {}, but {} is to run", found.sha256, rollout.sha256);
        return Err(Refused::new(Reason::Digest, text));
    }
    let bytes = source.target(&found, MAX_BYTES as u64).await?;
    let file = NodeModelFile::decode(&bytes);
    let file = file.map_err(|error| Refused::new(Reason::Manifest, format!("{target}: {error}")))?;
    if file.version != rollout.version {
        let text = format!("{target}: it calls itself {}", file.version);
        return Err(Refused::new(Reason::Manifest, text));
    }
    Ok(Arc::from(bytes))
}
