//! Models to push, and a TUF client to fetch them with.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use proto::Manifest;
use proto::manifest::{Golden, Input, Limits, Output, Task};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::{Prefix, Repository, RepositoryLoader, TargetName};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use url::Url;

use super::cloud::{Cloud, TOKEN, answer};

/// An ONNX file that looks like one; `weight` makes it another.
pub fn onnx(weight: &str) -> ModelProto {
    let node = NodeProto {
        input: vec!["input".to_owned()],
        output: vec!["scores".to_owned()],
        op_type: "Relu".to_owned(),
        ..NodeProto::default()
    };
    let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
    let graph = GraphProto {
        name: "graph".to_owned(),
        node: vec![node],
        input: vec![value("input")],
        output: vec![value("scores")],
        doc_string: weight.to_owned(),
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A model that can be pushed.
#[derive(Clone)]
pub struct Model {
    pub manifest: Manifest,
    pub onnx: Vec<u8>,
}

/// The model "soil-anomaly" in a version.
pub fn model(version: &str) -> Model {
    Model::of("soil-anomaly", version, &onnx(version))
}

impl Model {
    /// A model of this ONNX file.
    pub fn of(name: &str, version: &str, onnx: &ModelProto) -> Self {
        let onnx = onnx.encode_to_vec();
        let channels = ["soil_moisture_10cm", "soil_moisture_20cm"];
        let manifest = Manifest {
            name: name.to_owned(),
            version: version.to_owned(),
            task: Task::Anomaly,
            threshold: 1.0,
            tolerance: 1e-3,
            sha256: hex::encode(Sha256::digest(&onnx)),
            trained_on: "nothing: it is there to be pushed".to_owned(),
            parent: None,
            metrics: BTreeMap::from([("held_out_loss".to_owned(), 0.25)]),
            input: Input {
                features: channels.iter().map(|channel| format!("{channel}.mean").parse().unwrap()).collect(),
                steps: 1,
                window_s: 900,
            },
            output: Output { scores: channels.iter().map(|channel| channel.parse().unwrap()).collect() },
            limits: Limits { max_bytes: 1 << 20, max_latency_ms: 50, max_memory_bytes: 64 << 20 },
            golden: vec![Golden { input: vec![0.25, f64::NAN], output: vec![0.25, 0.0] }],
        };
        Self { manifest, onnx }
    }

    /// The same model, made from another version.
    pub fn after(mut self, parent: &str) -> Self {
        self.manifest.parent = Some(parent.to_owned());
        self
    }

    /// The manifest's text.
    pub fn text(&self) -> String {
        self.manifest.to_toml().unwrap()
    }
}

impl Cloud {
    /// Pushes two files, as a form.
    pub async fn push_files(&self, manifest: &str, onnx: &[u8]) -> (StatusCode, Value) {
        let form = Form::new().text("manifest", manifest.to_owned()).part("model", Part::bytes(onnx.to_vec()));
        answer(self.request(Method::POST, "/api/v1/models").multipart(form).send().await.unwrap()).await
    }

    /// Pushes a model that must be taken.
    pub async fn push(&self, model: &Model) -> Value {
        let (status, body) = self.push_files(&model.text(), &model.onnx).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body
    }

    /// A file of the registry, as a gateway reads it; none when it is not there.
    pub async fn tuf(&self, path: &str) -> Option<Vec<u8>> {
        let request = self.request(Method::GET, &format!("/tuf/{path}"));
        let response = request.bearer_auth(TOKEN).send().await.unwrap();
        match response.status() {
            StatusCode::NOT_FOUND => None,
            StatusCode::OK => Some(response.bytes().await.unwrap().to_vec()),
            other => panic!("{path}: {other}"),
        }
    }

    /// A file of metadata as JSON; must be there.
    pub async fn tuf_json(&self, file: &str) -> Value {
        serde_json::from_slice(&self.tuf(&format!("metadata/{file}")).await.unwrap()).unwrap()
    }

    /// The number of a role's newest version.
    pub async fn tuf_version(&self, role: &str) -> u64 {
        let version: i64 = sqlx::query_scalar("SELECT max(version) FROM tuf_metadata WHERE role = $1")
            .bind(role.to_owned())
            .fetch_one(&self.pool)
            .await
            .unwrap();
        version.unsigned_abs()
    }

    /// Copies the registry, as it is served, to a directory.
    async fn mirror(&self, to: &Path) {
        let save = async |name: String| {
            let bytes = self.tuf(&name).await?;
            std::fs::write(to.join(&name), &bytes).unwrap();
            Some(serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
        };
        for folder in ["metadata", "targets"] {
            std::fs::create_dir_all(to.join(folder)).unwrap();
        }
        for version in 1.. {
            if save(format!("metadata/{version}.root.json")).await.is_none() {
                break;
            }
        }
        let timestamp = save("metadata/timestamp.json".to_owned()).await.unwrap();
        let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
        let snapshot = save(format!("metadata/{version}.snapshot.json")).await.unwrap();
        let version = &snapshot["signed"]["meta"]["targets.json"]["version"];
        let targets = save(format!("metadata/{version}.targets.json")).await.unwrap();
        for (name, target) in targets["signed"]["targets"].as_object().unwrap() {
            let digest = target["hashes"]["sha256"].as_str().unwrap();
            let bytes = self.tuf(&format!("targets/{digest}.{name}")).await.unwrap();
            std::fs::write(to.join(format!("targets/{digest}.{name}")), bytes).unwrap();
        }
    }

    /// The registry as a TUF client finds it that trusts `root`.
    pub async fn client(&self, root: &[u8]) -> Result<Client, tough::error::Error> {
        let copy = tempfile::tempdir().unwrap();
        self.mirror(copy.path()).await;
        let url = |folder: &str| Url::from_directory_path(copy.path().join(folder)).unwrap();
        let repository = RepositoryLoader::new(&root, url("metadata"), url("targets")).load().await?;
        Ok(Client { repository, copy })
    }

    /// The same, for a client that trusts the first root.
    pub async fn verified(&self) -> Client {
        let root = cloud::registry::root(&self.pool).await.unwrap();
        self.client(&root).await.unwrap()
    }
}

/// A verified copy of the registry.
pub struct Client {
    pub repository: Repository,
    copy: tempfile::TempDir,
}

impl Client {
    /// The names of the targets, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.repository.all_targets().map(|(name, _)| name.raw().to_owned()).collect();
        names.sort();
        names
    }

    /// A target's bytes, verified.
    pub async fn target(&self, name: &str) -> Vec<u8> {
        let to = self.copy.path().join("saved");
        std::fs::create_dir_all(&to).unwrap();
        self.repository.save_target(&TargetName::new(name).unwrap(), &to, Prefix::None).await.unwrap();
        std::fs::read(to.join(name)).unwrap()
    }
}
