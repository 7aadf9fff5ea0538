//! Keys are replaced, and whoever trusts the first root follows.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::Path;

use cloud::registry::{self, Publisher, Which};
use serde_json::Value;

use crate::support::cloud::Cloud;
use crate::support::models::model;

/// The ids of a role's keys, as a root names them.
fn keys<'a>(root: &'a Value, role: &str) -> Vec<&'a str> {
    let ids = root["signed"]["roles"][role]["keyids"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap()).collect()
}

fn files(directory: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_client_of_the_first_root_follows_to_the_next() {
    let cloud = Cloud::start().await;
    cloud.push(&model("1.0.0")).await;
    let first = registry::root(&cloud.pool).await.unwrap();
    let (root_keys, online_keys) = (cloud.root_keys(), cloud.online_keys());
    for (which, version) in [(Which::Root, 2), (Which::Online, 3), (Which::Root, 4)] {
        let rotated = registry::rotate(&cloud.pool, &root_keys, &online_keys, which).await.unwrap();
        assert_eq!(rotated, NonZeroU64::new(version).unwrap());
        let client = cloud.client(&first).await.unwrap();
        assert_eq!(client.repository.root().signed.version, rotated, "{which:?}");
        assert_eq!(client.target("soil-anomaly-1.0.0.onnx").await, model("1.0.0").onnx);

        let (old, new) = (
            cloud.tuf_json(&format!("{}.root.json", version - 1)).await,
            cloud.tuf_json(&format!("{version}.root.json")).await,
        );
        for (role, changes) in [
            ("root", which == Which::Root),
            ("targets", which == Which::Online),
            ("snapshot", which == Which::Online),
            ("timestamp", which == Which::Online),
        ] {
            assert_eq!(keys(&old, role) != keys(&new, role), changes, "{role} {which:?}");
        }
        let signers =
            new["signatures"].as_array().unwrap().iter().map(|signature| signature["keyid"].as_str().unwrap());
        let expected = keys(&old, "root").into_iter().chain(keys(&new, "root")).collect::<BTreeSet<_>>();
        assert_eq!(signers.collect::<BTreeSet<_>>(), expected, "old and new key have signed");
    }
    assert_eq!(registry::root(&cloud.pool).await.unwrap(), first, "what gateways pin stays");

    // The running cloud signs with the new keys at once.
    cloud.push(&model("1.1.0")).await;
    assert_eq!(cloud.client(&first).await.unwrap().names().len(), 4);
    let retired = |directory: &Path| files(directory).iter().filter(|name| name.ends_with(".retired")).count();
    assert_eq!((retired(&root_keys), retired(&online_keys)), (2, 3));
    assert_eq!((files(&root_keys).len(), files(&online_keys).len()), (3, 6));
}

#[tokio::test]
async fn an_old_online_key_is_no_longer_accepted() {
    let cloud = Cloud::start().await;
    let stolen = tempfile::tempdir().unwrap();
    for name in files(&cloud.online_keys()) {
        std::fs::copy(cloud.online_keys().join(&name), stolen.path().join(&name)).unwrap();
    }
    let old_timestamp = cloud.tuf("metadata/timestamp.json").await.unwrap();
    registry::rotate(&cloud.pool, &cloud.root_keys(), &cloud.online_keys(), Which::Online).await.unwrap();
    let thief = Publisher::new(stolen.path());
    let first = model("1.0.0");
    let error = registry::push(&cloud.pool, &thief, &first.text(), &first.onnx, "thief").await.unwrap_err();
    assert!(error.to_string().contains("there is no targets key that root version 2"), "{error}");

    // Put in by force, what the old key signed is refused by whoever knows the new root.
    let replaced = sqlx::query("UPDATE tuf_metadata SET bytes = $1 WHERE role = 'timestamp' AND version = 2");
    replaced.bind(old_timestamp).execute(&cloud.pool).await.unwrap();
    let root = registry::root(&cloud.pool).await.unwrap();
    let error = cloud.client(&root).await.err().unwrap().to_string();
    assert!(error.contains("timestamp"), "{error}");
}

#[tokio::test]
async fn a_rotation_that_cannot_be_leaves_everything() {
    let cloud = Cloud::start().await;
    let nowhere = tempfile::tempdir().unwrap();
    for which in [Which::Root, Which::Online] {
        let refused = registry::rotate(&cloud.pool, nowhere.path(), &cloud.online_keys(), which).await.unwrap_err();
        assert!(refused.to_string().contains("there is no root key that root version 1"), "{refused}");
        let refused = registry::rotate(&cloud.pool, &cloud.root_keys(), nowhere.path(), which).await.unwrap_err();
        assert!(refused.to_string().contains("there is no targets key that root version 1"), "{refused}");
    }
    assert_eq!((files(&cloud.root_keys()).len(), files(&cloud.online_keys()).len()), (1, 3));
    assert_eq!((cloud.tuf_version("root").await, cloud.tuf_version("timestamp").await), (1, 1));
    assert!(files(nowhere.path()).is_empty(), "no key is made that would not be used");
    cloud.verified().await;
}
