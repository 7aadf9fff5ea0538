//! What there is and where it runs, and who is to run what: `tilth model list`, `show`, `activate` and `rollback`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use proto::UpdateStatus;
use proto::update::{Candidate, ModelStatus, Refusal};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, ClientError, CloudArgs};
use crate::runtime;

/// How often it is looked whether the gateways have come further.
const LOOK: Duration = Duration::from_millis(500);

/// Which model.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Its name
    name: String,
    /// One version of it [default: all]
    version: Option<String>,
}

/// Which version, where, and how.
#[derive(Debug, clap::Args)]
pub struct ActivateArgs {
    /// The model's name
    name: String,
    /// The version
    version: String,
    /// A gateway; may be given several times [default: every gateway of the farm]
    #[arg(long, value_name = "GATEWAY")]
    gateway: Vec<String>,
    /// How long it runs in shadow first, in the farm's time: 0s, 90m, 24h, 7d
    #[arg(long, default_value = "24h", value_parser = shadow)]
    shadow: u32,
    /// The share of scores that must agree with the active version at the end of the shadow, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    min_agreement: f64,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Which model to bring back.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The model's name
    name: String,
    /// A gateway; may be given several times [default: every gateway of the farm]
    #[arg(long, value_name = "GATEWAY")]
    gateway: Vec<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Whether to wait.
#[derive(Debug, clap::Args)]
struct WaitArgs {
    /// Wait until every gateway runs it, or refuses it
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, like 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    timeout: Duration,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "not a duration like 90s, 10m or 24h".to_owned())?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

/// Seconds of shadow; a day is 24 hours.
fn shadow(text: &str) -> Result<u32, String> {
    let seconds = match text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
        Some(days) => days.saturating_mul(86_400),
        None => duration(text)?.as_secs(),
    };
    let most = proto::assignment::MAX_SHADOW_S;
    u32::try_from(seconds).ok().filter(|s| *s <= most).ok_or_else(|| format!("must be at most {} days", most / 86_400))
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be 0 to 1".to_owned()) }
}

#[derive(Debug, Deserialize)]
struct Versions {
    items: Vec<Version>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Version {
    name: String,
    version: String,
    bytes: u64,
    parent: Option<String>,
    pushed_at: String,
    pushed_by: String,
    active_on: Vec<Place>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    gateway: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// How the models of a farm stand.
#[derive(Debug, Serialize, Deserialize)]
struct FarmModels {
    assignments: Vec<Assigned>,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Assigned {
    gateway: String,
    model: String,
    version: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Gateway {
    id: String,
    update: Option<UpdateStatus>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Gateway {
    fn model(&self, name: &str) -> Option<&ModelStatus> {
        self.update.as_ref()?.models.iter().find(|model| model.name == name)
    }
}

/// Lists the registered versions.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn list(cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let answer: Value = client.get("models").await?;
        if cloud.json {
            println!("{answer:#}");
            return Ok(());
        }
        let Versions { items } = understood(answer)?;
        println!(
            "{:<20} {:<9} {:>9} {:<9} {:<20} {:<24} active on",
            "model", "version", "bytes", "parent", "pushed", "by"
        );
        for version in items {
            let on: Vec<&str> = version.active_on.iter().map(|place| place.gateway.as_str()).collect();
            println!(
                "{:<20} {:<9} {:>9} {:<9} {:<20} {:<24} {}",
                version.name,
                version.version,
                version.bytes,
                version.parent.as_deref().unwrap_or("–"),
                version.pushed_at.get(..19).unwrap_or(&version.pushed_at),
                version.pushed_by,
                if on.is_empty() { "–".to_owned() } else { on.join(", ") }
            );
        }
        Ok(())
    })
}

/// Shows a model.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn show(args: &ShowArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let versions: Versions = client.get("models").await?;
        let wanted = |v: &Version| v.name == args.name && args.version.as_ref().is_none_or(|w| *w == v.version);
        let versions: Vec<Version> = versions.items.into_iter().filter(wanted).collect();
        if versions.is_empty() {
            let version = args.version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
            return Err(ClientError::Refused(format!("there is no model {}{version}", args.name)));
        }
        let farm: FarmModels = client.get(&format!("farms/{}/models", client.farm)).await?;
        if cloud.json {
            println!("{:#}", json!({ "versions": versions, "farm": farm }));
            return Ok(());
        }
        for version in &versions {
            println!("{} {}", version.name, version.version);
            for (key, value) in &version.rest {
                println!("  {key:<14} {}", one_line(value));
            }
        }
        println!("On the gateways of {}:", client.farm);
        for gateway in &farm.gateways {
            match gateway.model(&args.name) {
                Some(model) => print!("{}", described(&gateway.id, model)),
                None => println!("  {}: does not run it", gateway.id),
            }
            if let Some(refusal) = gateway.update.as_ref().and_then(|update| update.refusal.as_ref()) {
                println!("    the registry is refused ({}): {}", refusal.reason, refusal.text);
            }
        }
        Ok(())
    })
}

/// Lets gateways run a version.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn activate(args: &ActivateArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let path = format!("farms/{}/models/{}", client.farm, args.name);
        let mut body = json!({
            "version": args.version,
            "shadow_s": args.shadow,
            "min_agreement": args.min_agreement,
        });
        if !args.gateway.is_empty() {
            body["gateways"] = json!(args.gateway);
        }
        assigned(&client, Method::PUT, &path, &body, &args.name, &args.gateway, &args.wait, cloud.json).await
    })
}

/// Lets gateways run the version before.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn rollback(args: &RollbackArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let path = format!("farms/{}/models/{}/rollback", client.farm, args.name);
        let body = if args.gateway.is_empty() { json!({}) } else { json!({ "gateways": args.gateway }) };
        assigned(&client, Method::POST, &path, &body, &args.name, &args.gateway, &args.wait, cloud.json).await
    })
}

/// Assigns, and waits if that is wanted.
#[allow(clippy::too_many_arguments)]
async fn assigned(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
    name: &str,
    gateways: &[String],
    wait: &WaitArgs,
    as_json: bool,
) -> Result<(), ClientError> {
    let before: FarmModels = client.get(&format!("farms/{}/models", client.farm)).await?;
    let answer: FarmModels = understood(client.send_json(method, path, body).await?)?;
    let meant = |gateway: &str| gateways.is_empty() || gateways.iter().any(|g| g == gateway);
    let targets: Vec<&Assigned> = answer.assignments.iter().filter(|a| a.model == name && meant(&a.gateway)).collect();
    if !as_json {
        for target in &targets {
            println!("{}: is to run {name} {}", target.gateway, target.version);
        }
    }
    let after =
        if wait.wait { Some(wait_for(client, name, &targets, &before, wait.timeout, as_json).await?) } else { None };
    if as_json {
        println!("{:#}", json!(after.as_ref().unwrap_or(&answer)));
    }
    Ok(())
}

/// Waits until every gateway runs its version.
async fn wait_for(
    client: &Client,
    name: &str,
    targets: &[&Assigned],
    before: &FarmModels,
    patience: Duration,
    quiet: bool,
) -> Result<FarmModels, ClientError> {
    let began = Instant::now();
    let known = |gateway: &str| -> Vec<Refusal> {
        let model = before.gateways.iter().find(|g| g.id == gateway).and_then(|g| g.model(name));
        model.map(|m| m.refusals.clone()).unwrap_or_default()
    };
    let mut said: BTreeMap<&str, String> = BTreeMap::new();
    loop {
        let now: FarmModels = client.get(&format!("farms/{}/models", client.farm)).await?;
        let mut missing = Vec::new();
        for target in targets {
            let model = now.gateways.iter().find(|g| g.id == target.gateway).and_then(|g| g.model(name));
            let refused = model.and_then(|m| {
                let known = known(&target.gateway);
                m.refusals.iter().find(|r| r.version.as_ref() == Some(&target.version) && !known.contains(r))
            });
            if let Some(refusal) = refused {
                let (gateway, version) = (&target.gateway, &target.version);
                return Err(ClientError::Refused(format!(
                    "gateway {gateway} refuses {name} {version} ({}): {}",
                    refusal.reason, refusal.text
                )));
            }
            let state = match model {
                Some(m) if m.active.version == target.version => "active".to_owned(),
                Some(m) => m.candidate.as_ref().map_or_else(|| "has not heard of it yet".to_owned(), phase),
                None => "has not heard of it yet".to_owned(),
            };
            if said.get(target.gateway.as_str()) != Some(&state) {
                if !quiet {
                    println!("{:>5.1} s  {}: {state}", began.elapsed().as_secs_f64(), target.gateway);
                }
                said.insert(&target.gateway, state.clone());
            }
            if state != "active" {
                missing.push(format!("{}: {state}", target.gateway));
            }
        }
        if missing.is_empty() {
            return Ok(now);
        }
        if began.elapsed() >= patience {
            return Err(ClientError::Refused(format!(
                "not active after {} s: {}",
                patience.as_secs(),
                missing.join("; ")
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A gateway's view of a model, a line for each thing.
fn described(gateway: &str, model: &ModelStatus) -> String {
    let mut text = String::new();
    let active = &model.active;
    // Writing into a string does not fail.
    let _ = writeln!(text, "  {gateway}: runs {} since {}: {}", active.version, active.since, active.why);
    if let Some(candidate) = &model.candidate {
        let _ = writeln!(text, "    on its way: {}, {}", candidate.version, phase(candidate));
    }
    for refusal in &model.refusals {
        let version = refusal.version.as_deref().unwrap_or("?");
        let _ = writeln!(text, "    refused {version} at {} ({}): {}", refusal.at, refusal.reason, refusal.text);
    }
    text
}

fn phase(candidate: &Candidate) -> String {
    use proto::update::Phase;
    match (candidate.phase, &candidate.shadow) {
        (Phase::Fetching, _) => format!("being fetched, {} of {} bytes", candidate.fetched, candidate.size),
        (Phase::Verified, _) => "fetched and verified".to_owned(),
        (Phase::SelfTested, _) => "self-tested".to_owned(),
        (Phase::Shadow, Some(shadow)) => format!("in shadow until {}", shadow.until),
        (Phase::Shadow, None) => "in shadow".to_owned(),
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(one_line).collect::<Vec<_>>().join(", "),
        Value::Object(items) => {
            items.iter().map(|(k, v)| format!("{k} {}", one_line(v))).collect::<Vec<_>>().join(", ")
        }
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

pub(crate) fn understood<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, ClientError> {
    serde_json::from_value(answer)
        .map_err(|error| ClientError::Refused(format!("the cloud gives an answer that is not understood: {error}")))
}

pub(crate) fn on_cloud(
    cloud: &CloudArgs,
    work: impl AsyncFnOnce(Client) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    runtime().map_err(|e| ClientError::Usage(e.to_string()))?.block_on(async {
        let client = Client::sign_in(cloud).await?;
        work(client).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_is_seconds_hours_or_days() {
        assert_eq!(["0s", "90m", "24h", "7d"].map(shadow), [Ok(0), Ok(5_400), Ok(86_400), Ok(604_800)]);
        assert_eq!(shadow("200d"), Err("must be at most 180 days".to_owned()));
        assert!(shadow("soon").is_err() && shadow("-1h").is_err());
    }
}
