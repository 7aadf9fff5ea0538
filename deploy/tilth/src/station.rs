//! `tilth station`: who may report to a gateway. A station is a credentials file of its own in the gateway's directory of
//! them, which the gateway reads again when it changes: nothing is restarted.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use gateway::credentials::{Credentials, CredentialsFile, Entry, Role};
use proto::{StationId, Topic, TopicKind};
use serde::Serialize;

use crate::{farm, secret, up};

/// What to do with stations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tilth station add weather-1                    lets weather-1 in, and prints its password, once
  tilth station add probe-1 --certificate        lets probe-1 in by its certificate, without a password
  tilth station add edge1 --bridge 'spBv1.0/Farm/+/edge1/#' --bridge 'spBv1.0/STATE/#'
  tilth station list
  tilth station remove weather-1                 at its next connect it is refused
  docker-compose exec gateway tilth station add weather-1")]
pub struct StationArgs {
    #[command(subcommand)]
    command: Command,
    /// The gateway's directory of credentials files [default: the one of --data-dir]
    #[arg(long, env = "TILTH_CREDENTIALS_DIR", value_name = "DIR", global = true)]
    credentials_dir: Option<PathBuf>,
    /// The directory of a farm that `tilth up` runs here [default: /var/lib/tilth as root, else ~/.local/share/tilth]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a station in: makes its password and prints it, the only time that it can be seen
    Add {
        /// Its name: 1 to 64 of a-z, 0-9, - and _
        name: StationId,
        /// It brings other people's sensors (a Sparkplug node, a LoRaWAN server): an MQTT filter within which it publishes
        /// and subscribes; may be given more than once
        #[arg(long = "bridge", value_name = "FILTER")]
        topics: Vec<String>,
        /// It comes in by a certificate of its name: it gets no password
        #[arg(long)]
        certificate: bool,
    },
    /// Name everybody who is let in
    List,
    /// Let a station in no more: it is refused at its next connect
    Remove {
        /// Its name
        name: StationId,
    },
}

/// A station that was added, and what it signs in with.
#[derive(Debug, Serialize)]
struct Added {
    station: StationId,
    /// None for one that comes in by a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// Where a station sends its readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Within which filters a bridge publishes and subscribes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
}

/// Somebody who is let in.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    role: Role,
    file: PathBuf,
}

/// Does it, and gives the exit code.
///
/// # Errors
/// When the directory cannot be read or written, the station is there already or is not there.
pub fn run(args: StationArgs) -> anyhow::Result<ExitCode> {
    let dir = match args.credentials_dir {
        Some(dir) => dir,
        None => farm::credentials_dir(&args.data_dir.map_or_else(up::default_data_dir, Ok)?),
    };
    match args.command {
        Command::Add { name, topics, certificate } => {
            let added = add(&dir, name, topics, certificate)?;
            if args.json {
                println!("{}", serde_json::to_string(&added)?);
            } else {
                added.show();
            }
        }
        Command::List => {
            let listed = list(&dir)?;
            if args.json {
                println!("{}", serde_json::to_string(&listed)?);
            } else {
                for Listed { name, role, file } in listed {
                    let role = match role {
                        Role::Station => "station",
                        Role::Subscriber => "subscriber",
                        Role::Bridge => "bridge",
                    };
                    println!("{name:<24} {role:<11} {}", file.display());
                }
            }
        }
        Command::Remove { name } => {
            remove(&dir, &name)?;
            if args.json {
                println!("{}", serde_json::json!({ "removed": name }));
            } else {
                println!("{name} is refused at its next connect");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Added {
    fn show(&self) {
        let Self { station, password, topic, topics } = self;
        println!("{}   {station}", if topic.is_some() { "station" } else { "bridge " });
        password.iter().for_each(|password| println!("password  {password}"));
        topic.iter().for_each(|topic| println!("topic     {topic}"));
        topics.iter().for_each(|filter| println!("topics    {filter}"));
        let client_id = if topic.is_some() { "the same" } else { "any" };
        match password {
            Some(_) => {
                println!("\nMQTT's user name is {station}, its client id {client_id}. The password is not shown again.")
            }
            None => println!("\nThe common name of its certificate is {station}, MQTT's client id {client_id}."),
        }
    }
}

fn add(dir: &Path, station: StationId, topics: Vec<String>, certificate: bool) -> anyhow::Result<Added> {
    if let Some(known) = list(dir)?.into_iter().find(|known| known.name == station.as_str()) {
        bail!("{station} is there already, in {}: remove it first to give it another password", known.file.display());
    }
    let password = (!certificate).then(secret::password);
    let role = if topics.is_empty() { Role::Station } else { Role::Bridge };
    let password_sha256 = password.as_deref().map(secret::digest);
    let entry = Entry { name: station.to_string(), role, password_sha256, topics: topics.clone() };
    if let Some(problem) = entry.check() {
        bail!("client {:?}: {problem}", station.as_str());
    }
    write_entries(&dir.join(format!("{station}.toml")), vec![entry])?;
    let own = Topic { farm: farm::FARM.parse()?, station: station.clone(), kind: TopicKind::Data };
    let topic = (role == Role::Station).then(|| own.to_string());
    Ok(Added { station, password, topic, topics })
}

/// Everybody in the directory, and in the file beside it that `tilth up` writes, by name.
fn list(dir: &Path) -> anyhow::Result<Vec<Listed>> {
    let mut files = vec![dir.with_extension("toml")];
    for entry in fs::read_dir(dir).with_context(|| format!("no directory of credentials files: {}", dir.display()))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && file.exists());
    let mut all = Vec::new();
    for file in files {
        let credentials = Credentials::load(&file)?;
        let listed = |(name, role): (&str, Role)| Listed { name: name.to_owned(), role, file: file.clone() };
        all.extend(credentials.clients().into_iter().map(listed));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn remove(dir: &Path, station: &StationId) -> anyhow::Result<()> {
    let own = dir.join(format!("{station}.toml"));
    let Some(known) = list(dir)?.into_iter().find(|known| known.name == station.as_str()) else {
        bail!("there is no station {station} in {}", dir.display());
    };
    if known.file != own {
        bail!("{station} is one of the clients in {}, which is not a file of its own", known.file.display());
    }
    match fs::remove_file(&own) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", own.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a credentials file of clients with their passwords, of which only the digests are kept.
///
/// # Errors
/// When it cannot be written.
pub fn write<'a>(path: &Path, clients: impl IntoIterator<Item = (&'a str, Role, &'a str)>) -> anyhow::Result<()> {
    write_entries(path, clients.into_iter().map(|(name, role, password)| entry(name, role, password)).collect())
}

fn entry(name: &str, role: Role, password: &str) -> Entry {
    Entry { name: name.to_owned(), role, password_sha256: Some(secret::digest(password)), topics: Vec::new() }
}

fn write_entries(path: &Path, client: Vec<Entry>) -> anyhow::Result<()> {
    secret::write(path, &toml::to_string(&CredentialsFile { client })?)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_is_added_once_listed_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("credentials.d");
        let n9: StationId = "n9".parse().unwrap();
        let error = add(&dir, n9.clone(), vec![], false).unwrap_err().to_string();
        assert!(error.starts_with("no directory of credentials files"), "{error}");
        fs::create_dir(&dir).unwrap();
        write(&data.path().join("credentials.toml"), [("n1", Role::Station, "secret")]).unwrap();

        let added = add(&dir, n9.clone(), vec![], false).unwrap();
        assert_eq!(added.topic.as_deref(), Some("tilth/v1/fallon/n9/data"));
        let password = added.password.unwrap();
        let credentials = Credentials::load(&dir.join("n9.toml")).unwrap();
        assert_eq!(credentials.verify("n9", password.as_bytes()), Ok(Role::Station));
        assert!(!fs::read_to_string(dir.join("n9.toml")).unwrap().contains(&password), "only its digest is kept");
        let error = add(&dir, n9.clone(), vec![], false).unwrap_err().to_string();
        assert!(error.starts_with("n9 is there already, in "), "{error}");
        let names: Vec<String> = list(&dir).unwrap().into_iter().map(|listed| listed.name).collect();
        assert_eq!(names, ["n1", "n9"]);

        let error = remove(&dir, &"n1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is not a file of its own"), "{error}");
        remove(&dir, &n9).unwrap();
        let edge: StationId = "edge".parse().unwrap();
        let error = add(&dir, edge.clone(), vec!["#".to_owned()], false).unwrap_err().to_string();
        assert_eq!(error, "client \"edge\": topics: \"#\" would match tilth/v1");
        let added = add(&dir, edge, vec!["spBv1.0/#".to_owned()], false).unwrap();
        assert_eq!((added.topic, added.topics), (None, vec!["spBv1.0/#".to_owned()]));
        let credentials = Credentials::load(&dir.join("edge.toml")).unwrap();
        assert_eq!(credentials.verify("edge", added.password.unwrap().as_bytes()), Ok(Role::Bridge));
        let error = remove(&dir, &n9).unwrap_err().to_string();
        assert!(error.starts_with("there is no station n9 in "), "{error}");
        assert_eq!(add(&dir, n9.clone(), vec![], true).unwrap().password, None);
        let credentials = Credentials::load(&dir.join("n9.toml")).unwrap();
        assert_eq!(credentials.role_of("n9"), Some(Role::Station));
        assert_eq!(credentials.verify("n9", b""), Err(gateway::credentials::Refusal::Unknown));
    }
}
