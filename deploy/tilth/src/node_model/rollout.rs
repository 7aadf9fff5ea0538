//! What the nodes are to run, and how they stand: `tilth node-model list`, `show`, `stage`, `pause`, `resume` and `abort`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, ClientError, CloudArgs};
use crate::model::assign::{duration, on_cloud, share, understood};

/// How often it is looked whether the stations have come further.
const LOOK: Duration = Duration::from_millis(500);

/// Which version, and who gets it.
#[derive(Debug, clap::Args)]
pub struct StageArgs {
    /// The model's name
    name: String,
    /// The version
    version: String,
    /// A station; may be given several times
    #[arg(long, value_name = "STATION")]
    station: Vec<String>,
    /// A share of all stations, 0 to 1; a larger one holds those of a smaller
    #[arg(long, value_parser = share)]
    share: Option<f64>,
    /// Stop when more than this share of the stage's stations refuse it or roll it back [default: 0.1, or as it was]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    most_failed: Option<f64>,
    /// Wait until every station of the stage that is there runs it, or the stage stops
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, like 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Deserialize)]
struct FarmNodes {
    rollout: Option<Rollout>,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Deserialize)]
struct Rollout {
    name: String,
    version: String,
    serial: u64,
    order: String,
    stations: Vec<String>,
    share: f64,
    most_failed: f64,
    at: String,
    by: String,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    id: String,
    nodes: Option<proto::update::NodesStatus>,
}

/// Lists the registered versions.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn list(cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let answer: Value = client.get("node-models").await?;
        if cloud.json {
            println!("{answer:#}");
            return Ok(());
        }
        println!("{:<20} {:<9} {:>6} {:<20} {:<24} channels", "model", "version", "bytes", "pushed", "by");
        for version in answer["items"].as_array().into_iter().flatten() {
            let text = |key: &str| version[key].as_str().unwrap_or("?").to_owned();
            let channels: Vec<&str> =
                version["channels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (pushed, bytes) = (text("pushed_at"), version["bytes"].as_u64().unwrap_or(0));
            println!(
                "{:<20} {:<9} {bytes:>6} {:<20} {:<24} {}",
                text("name"),
                text("version"),
                pushed.get(..19).unwrap_or(&pushed),
                text("pushed_by"),
                channels.join(", ")
            );
        }
        Ok(())
    })
}

/// Shows what the nodes are to run, and how they stand.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn show(cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let answer: Value = client.get(&path(&client)).await?;
        if cloud.json {
            println!("{answer:#}");
        } else {
            print!("{}", described(&understood(answer)?));
        }
        Ok(())
    })
}

/// Lets stations run a version.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn stage(args: &StageArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        if args.station.is_empty() && args.share.is_none() {
            return Err(ClientError::Usage("who gets it? --station STATION or --share SHARE".to_owned()));
        }
        let mut body = json!({
            "name": args.name,
            "version": args.version,
            "stations": args.station,
            "share": args.share.unwrap_or(0.0),
        });
        if let Some(most) = args.most_failed {
            body["most_failed"] = json!(most);
        }
        let answer = client.send_json(Method::PUT, &path(&client), &body).await?;
        let after = if args.wait { wait(&client, &answer, args.timeout, cloud.json).await? } else { answer };
        if cloud.json {
            println!("{after:#}");
        } else {
            print!("{}", described(&understood(after)?));
        }
        Ok(())
    })
}

/// Goes on, pauses or takes back.
///
/// # Errors
/// [`ClientError`], with its exit code.
pub fn order(order: &str, cloud: &CloudArgs) -> Result<(), ClientError> {
    on_cloud(cloud, async |client| {
        let answer = client.send_json(Method::PUT, &path(&client), &json!({ "order": order })).await?;
        if cloud.json {
            println!("{answer:#}");
        } else {
            print!("{}", described(&understood(answer)?));
        }
        Ok(())
    })
}

/// Waits until every gateway is done with the stage.
async fn wait(client: &Client, set: &Value, patience: Duration, quiet: bool) -> Result<Value, ClientError> {
    use proto::update::NodesPhase;
    let began = Instant::now();
    let serial = set["rollout"]["serial"].as_u64();
    let mut said = String::new();
    loop {
        let answer: Value = client.get(&path(client)).await?;
        let now: FarmNodes = understood(answer.clone())?;
        let (mut waits, mut state) = (now.gateways.is_empty(), Vec::new());
        for gateway in &now.gateways {
            let nodes = gateway.nodes.as_ref().filter(|nodes| Some(nodes.serial) == serial);
            match nodes {
                Some(nodes) if nodes.phase == NodesPhase::Stopped => {
                    return Err(ClientError::Refused(format!(
                        "gateway {} has stopped the stage: {}",
                        gateway.id, nodes.text
                    )));
                }
                // A gateway none of whose stations is in the stage has nothing to do.
                Some(nodes) if nodes.phase == NodesPhase::Done || nodes.in_stage == 0 => {}
                _ => waits = true,
            }
            state.push(match nodes {
                Some(nodes) => format!("{}: {} of {} stations run it", gateway.id, nodes.active, nodes.in_stage),
                None => format!("{}: has not heard of it yet", gateway.id),
            });
        }
        let ran = now.gateways.iter().filter_map(|g| g.nodes.as_ref()).any(|nodes| nodes.active > 0);
        let state = state.join("; ");
        if state != said && !quiet {
            println!("{:>5.1} s  {state}", began.elapsed().as_secs_f64());
        }
        said.clone_from(&state);
        if !waits && ran {
            return Ok(answer);
        }
        if began.elapsed() >= patience {
            return Err(ClientError::Refused(format!("not done after {} s: {state}", patience.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn path(client: &Client) -> String {
    format!("farms/{}/node-models", client.farm)
}

/// How it stands, for people.
fn described(nodes: &FarmNodes) -> String {
    let mut text = String::new();
    let Some(rollout) = &nodes.rollout else { return "The farm's nodes are to run no model.\n".to_owned() };
    // Writing into a string does not fail.
    let _ = writeln!(
        text,
        "{} {}: {}, set {} by {} (number {})",
        rollout.name, rollout.version, rollout.order, rollout.at, rollout.by, rollout.serial
    );
    let named = if rollout.stations.is_empty() { "none".to_owned() } else { rollout.stations.join(", ") };
    let _ = writeln!(
        text,
        "stage: {:.0} % of the stations, and by name {named}; stops beyond {:.0} % that fail",
        100.0 * rollout.share,
        100.0 * rollout.most_failed
    );
    for gateway in &nodes.gateways {
        let Some(status) = &gateway.nodes else {
            let _ = writeln!(text, "{}: says nothing of nodes", gateway.id);
            continue;
        };
        let why = if status.text.is_empty() { String::new() } else { format!(" ({})", status.text) };
        let _ = writeln!(
            text,
            "{}: number {}, {}{why}; of {} stations that take models {} are in the stage, {} run it, {} failed",
            gateway.id,
            status.serial,
            status.phase.name(),
            status.known,
            status.in_stage,
            status.active,
            status.failed
        );
        let _ = writeln!(
            text,
            "  {:<12} {:<6} {:<9} {:<9} {:<9} {:>6} {:<12} {:<14} {:>9} {:>8}",
            "station", "stage", "active", "previous", "candidate", "bytes", "state", "reason", "judged", "unusual"
        );
        for station in &status.stations {
            let shown =
                |version: Option<proto::NodeModelVersion>| version.map_or_else(|| "–".to_owned(), |v| v.to_string());
            let _ = writeln!(
                text,
                "  {:<12} {:<6} {:<9} {:<9} {:<9} {:>6} {:<12} {:<14} {:>9} {:>8}",
                station.station.to_string(),
                if station.in_stage { "yes" } else { "no" },
                shown(station.active),
                shown(station.previous),
                shown(station.candidate),
                station.offset,
                station.state.name(),
                station.reason,
                station.judged,
                station.alerts
            );
        }
    }
    text
}
