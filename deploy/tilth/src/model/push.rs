//! `tilth model push`.

use std::fs;
use std::path::{Path, PathBuf};

use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};
use reqwest::multipart::{Form, Part};

use crate::client::{Client, ClientError, CloudArgs};
use crate::runtime;

/// What to push.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// A folder with model.onnx and manifest.toml, or an ONNX file
    #[arg(value_name = "FOLDER|FILE")]
    model: PathBuf,
    /// The manifest [default: manifest.toml beside the file]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// Where a model's two files are.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// The ONNX file.
    pub model: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
}

impl Files {
    /// The files of a folder, or of an ONNX file with its manifest beside it.
    pub fn of(model: &Path, manifest: Option<&Path>) -> Self {
        let (model, beside) = if model.is_dir() {
            (model.join("model.onnx"), model.join("manifest.toml"))
        } else {
            (model.to_owned(), model.with_file_name("manifest.toml"))
        };
        Self { model, manifest: manifest.map_or(beside, Path::to_owned) }
    }
}

/// Reads a file that is no larger than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ClientError> {
    let usage = |error: std::io::Error| ClientError::Usage(format!("cannot read {}: {error}", path.display()));
    let bytes = fs::metadata(path).map_err(usage)?.len();
    if bytes > limit {
        let shown = path.display();
        return Err(ClientError::Usage(format!("{shown} has {bytes} bytes, more than the {limit} that are allowed")));
    }
    fs::read(path).map_err(usage)
}

/// Registers a version.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn run(args: &PushArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    let files = Files::of(&args.model, args.manifest.as_deref());
    let model = read(&files.model, MAX_MODEL_BYTES)?;
    let manifest = read(&files.manifest, MAX_MANIFEST_BYTES)?;
    let bytes = model.len();
    let form = Form::new()
        .part("manifest", Part::bytes(manifest).file_name("manifest.toml"))
        .part("model", Part::bytes(model).file_name("model.onnx"));
    let pushed = runtime().map_err(|e| ClientError::Usage(e.to_string()))?.block_on(async {
        let client = Client::sign_in(cloud).await?;
        client.upload("models", form).await
    })?;
    if cloud.json {
        println!("{pushed:#}");
    } else {
        let text = |key: &str| pushed[key].as_str().unwrap_or("?").to_owned();
        let (name, version) = (text("name"), text("version"));
        println!("registered {name} {version}, {bytes} bytes, sha256 {}", text("sha256"));
        println!("next: tilth model activate {name} {version}");
    }
    Ok(())
}
