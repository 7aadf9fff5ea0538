//! The farm that is run: its names, its secrets, and the configuration of each tier.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cloud::setup::{self, FarmSpec, FieldSpec};
use gateway::config::{CloudConfig, RetentionConfig, WindowsConfig};
use gateway::credentials::Role;
use gateway::decide::FieldConfig;
use gateway::decide::config::{IrrigationConfig, SystemKind};
use gateway::decode::source::SourceConfig;
use gateway::detect::RulesConfig;
use gateway::door::DoorConfig;
use gateway::update::UpdatesConfig;
use node_sim::config::{FarmConfig, Pace};
use node_sim::crop::Crop;
use node_sim::crop::demand::{Climate, Coefficients};
use node_sim::crop::growth::Growth;
use node_sim::irrigation::{Equipment, System};
use node_sim::onboard::NodeConfig;
use proto::decision::MAX_MINUTES;
use proto::{Channel, FarmId, GatewayId, Quantity, StationId, TimeScale, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::registry::{self, Keys};
use crate::service::Service;
use crate::{secret, station};

/// The farm's name in topics and tables.
pub const FARM: &str = "fallon";
/// The gateway's name.
pub const GATEWAY: &str = "home";
/// The first user's e-mail address.
pub const USER: &str = "farmer@example.org";
/// The name under which other programs subscribe to the stations' topics.
pub const SUBSCRIBER: &str = "subscriber";
/// How often the gateway asks for models, in seconds: on one machine the link costs nothing.
const POLL_S: u64 = 2;
/// Where the farm lies.
const TIME_ZONE: &str = "America/Los_Angeles";

/// What a farm is run with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The simulated field and its stations.
    pub farm: FarmConfig,
    /// How the farm's clock runs.
    pub time: TimeScale,
    /// What sets the pace of the simulation.
    pub pace: Pace,
    /// Farm time at which the simulation ends.
    pub until: Option<Timestamp>,
    /// Whether every reading goes to the truth log.
    pub truth_readings: bool,
    /// The database.
    pub database_url: String,
    /// Where the dashboard and the API are served.
    pub cloud: SocketAddr,
    /// Where stations and subscribers connect.
    pub mqtt: SocketAddr,
    /// Where the gateway's own page is served.
    pub status: SocketAddr,
    /// Whether the simulated nodes take models over the air.
    pub node_models: bool,
}

/// What people and programs sign in with. Made at the first start and kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// The first user's password.
    pub user: String,
    /// The gateway's token at the cloud.
    pub gateway: String,
    /// The password of [`SUBSCRIBER`] at the gateway.
    pub subscriber: String,
    /// The stations' passwords at the gateway.
    pub stations: BTreeMap<StationId, String>,
}

impl Secrets {
    /// Reads the secrets of `data_dir`, and makes those that are not there yet.
    ///
    /// # Errors
    /// When they can be neither read nor written.
    pub fn open(data_dir: &Path, stations: impl Iterator<Item = StationId>) -> anyhow::Result<Self> {
        let path = data_dir.join("secrets.toml");
        let mut secrets = match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} does not hold a farm's secrets", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self {
                user: secret::password(),
                gateway: secret::password(),
                subscriber: secret::password(),
                stations: BTreeMap::new(),
            },
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        for station in stations {
            secrets.stations.entry(station).or_insert_with(secret::password);
        }
        secret::write(&path, &toml::to_string(&secrets)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(secrets)
    }
}

/// The three tiers, ready to be started.
#[derive(Debug, Clone)]
pub struct Services {
    /// The cloud.
    pub cloud: Service,
    /// The gateway.
    pub gateway: Service,
    /// The simulated stations.
    pub node_sim: Service,
}

impl Plan {
    /// The farm's name.
    #[must_use]
    pub fn farm_id(&self) -> FarmId {
        self.farm.id.clone()
    }

    /// Brings the database to the tables and the inventory that this farm needs.
    ///
    /// # Errors
    /// When the database does not answer, or refuses.
    pub async fn set_up_database(&self, secrets: &Secrets) -> anyhow::Result<()> {
        private_dir(&self.data_dir.join("registry"))?;
        let pool = cloud::database::connect(&self.database_url).await?;
        cloud::database::migrate(&pool).await?;
        set_up_inventory(&pool, &self.farm, secrets).await?;
        registry::set_up(&pool, &Keys::of(&self.data_dir), &registry::pinned_root(&self.data_dir)).await?;
        pool.close().await;
        Ok(())
    }

    /// Writes the tiers' configurations below the data directory; `program` is what runs them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn configure(&self, secrets: &Secrets, program: &Path) -> anyhow::Result<Services> {
        let dirs = ["config", "config/credentials.d", "run", "log", "gateway", "node-sim", "truth"];
        for dir in dirs {
            private_dir(&self.data_dir.join(dir))?;
        }
        let credentials = self.data_dir.join("config/credentials.toml");
        let stations =
            secrets.stations.iter().map(|(name, password)| (name.as_str(), Role::Station, password.as_str()));
        station::write(&credentials, stations.chain([(SUBSCRIBER, Role::Subscriber, secrets.subscriber.as_str())]))?;
        let service = |name: &'static str, config: toml::Table| -> anyhow::Result<Service> {
            let path = self.data_dir.join(format!("config/{name}.toml"));
            secret::write(&path, &toml::to_string(&config)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Service {
                name,
                program: program.to_owned(),
                config: path,
                log: self.data_dir.join(format!("log/{name}.log")),
                ready_file: self.ready_file(name),
            })
        };
        Ok(Services {
            cloud: service("cloud", self.cloud_config()?)?,
            gateway: service("gateway", self.gateway_config(secrets, &credentials)?)?,
            node_sim: service("node-sim", self.node_sim_config(secrets)?)?,
        })
    }

    fn ready_file(&self, name: &str) -> PathBuf {
        self.data_dir.join(format!("run/{name}.json"))
    }

    fn cloud_config(&self) -> anyhow::Result<toml::Table> {
        #[derive(Serialize)]
        struct Cloud<'a> {
            database_url: &'a str,
            listen: String,
            ready_file: PathBuf,
            time: TimeScale,
            registry: Registry,
        }
        #[derive(Serialize)]
        struct Registry {
            online_keys: PathBuf,
        }
        let listen = self.cloud.to_string();
        let config = Cloud {
            database_url: &self.database_url,
            listen,
            ready_file: self.ready_file("cloud"),
            time: self.time,
            registry: Registry { online_keys: Keys::of(&self.data_dir).online },
        };
        Ok(toml::Table::try_from(config)?)
    }

    fn gateway_config(&self, secrets: &Secrets, credentials: &Path) -> anyhow::Result<toml::Table> {
        let config = gateway::Config {
            farm: self.farm_id(),
            gateway: gateway_id()?,
            data_dir: self.data_dir.join("gateway"),
            status_listen: self.status,
            ready_file: Some(self.ready_file("gateway")),
            time: self.time,
            door: DoorConfig {
                listen: Some(self.mqtt),
                credentials: Some(credentials.to_owned()),
                credentials_dir: Some(credentials_dir(&self.data_dir)),
                ..DoorConfig::default()
            },
            cloud: Some(CloudConfig { url: format!("http://{}", self.cloud), token: secrets.gateway.clone() }),
            uplink: gateway::uplink::UplinkConfig::default(),
            windows: WindowsConfig::default(),
            retention: RetentionConfig::default(),
            rules: RulesConfig::default(),
            models_dir: None,
            broker: None,
            sources: sources(&self.data_dir.join("sources.toml"))?,
            fields: fields(&self.data_dir.join("fields.toml"), &self.farm)?,
            filters: toml::Table::new(),
            nodes: gateway::nodes::NodesConfig::default(),
            updates: UpdatesConfig {
                root: Some(registry::pinned_root(&self.data_dir)),
                poll_s: POLL_S,
                ..UpdatesConfig::default()
            },
        };
        Ok(toml::Table::try_from(config)?)
    }

    fn node_sim_config(&self, secrets: &Secrets) -> anyhow::Result<toml::Table> {
        let config = node_sim::Config {
            passwords: secrets.stations.clone(),
            time: self.time,
            pace: self.pace,
            until: self.until,
            truth_dir: Some(self.data_dir.join("truth")),
            truth_readings: self.truth_readings,
            node: NodeConfig { model: self.node_models, ..NodeConfig::default() },
            ready_file: Some(self.ready_file("node-sim")),
            ..node_sim::Config::new(self.farm.clone(), self.mqtt.to_string(), self.data_dir.join("node-sim"))
        };
        Ok(toml::Table::try_from(config)?)
    }
}

/// Brings a database with tables to what this farm has: fields, gateway, and a first user where there is none.
///
/// # Errors
/// When the database does not answer, or refuses.
pub async fn set_up_inventory(pool: &PgPool, farm: &FarmConfig, secrets: &Secrets) -> anyhow::Result<()> {
    let fields = farm.fields().into_iter().map(|field| FieldSpec {
        crop: field.crop.name().to_owned(),
        soil: field.soil.name().to_owned(),
        field_capacity: field.field_capacity(),
        wilting_point: field.wilting_point(),
        refill_point: field.refill_point(),
        id: field.id,
        name: field.name,
    });
    let is_usual = farm.place() == FarmConfig::default().place();
    let nearest = match farm.place().zone_h() {
        0 => "Etc/UTC".to_owned(),
        // The names have the sign of what is to be added to get to UTC.
        hours => format!("Etc/GMT{:+}", -hours),
    };
    let timezone = if is_usual { TIME_ZONE.to_owned() } else { farm.weather.time_zone.clone().unwrap_or(nearest) };
    let farm = FarmSpec {
        id: farm.id.clone(),
        name: if is_usual { "Fallon farm" } else { "Farm" }.to_owned(),
        timezone,
        latitude: farm.latitude,
        longitude: farm.longitude,
        fields: fields.collect(),
    };
    setup::create_or_update_farm(pool, &farm).await?;
    setup::create_gateway(pool, &farm.id, &gateway_id()?, "Home", &secrets.gateway).await?;
    if !setup::user_exists(pool, USER).await? {
        setup::create_user(pool, USER, &secrets.user, setup::Role::Admin, &[farm.id]).await?;
    }
    Ok(())
}

/// The most stations of a field that the gateway asks for its water.
const ASKED: usize = 24;
/// The most minutes of irrigation a day, but of a pivot.
const MOST_MINUTES: u32 = 600;
/// How long a command is repeated, in minutes of farm time: at a day in two minutes these are 30 s.
const EXPIRE_MINUTES: u32 = 360;

/// Where the soil is measured beneath the usual 40 cm on a farm whose irrigation is left to the gateway, cm: most crops are rooted to a metre,
/// and what no probe sees cannot be kept moist.
const DEEP_CM: [u16; 2] = [60, 80];

/// The farm with fields that leave irrigation to the gateway, with probes down to where their crops drink, and that begin as dry as their crops take without stress.
#[must_use]
pub fn left_to_the_gateway(mut farm: FarmConfig) -> FarmConfig {
    let mut fields = farm.fields();
    let measured = farm.sensors.channels();
    let deep = DEEP_CM.map(|depth_cm| Channel::at(Quantity::SoilMoisture, depth_cm));
    farm.sensors.also.extend(deep.into_iter().filter(|channel| !measured.contains(channel)));
    for field in &mut fields {
        field.irrigation.scheduled = false;
        field.dry = Some(field.crop.parameters().depletion_fraction);
    }
    FarmConfig { fields, ..farm }
}

/// The fields on which the gateway is to decide: those written by hand in a file of `[[field]]` tables, else the simulated ones.
///
/// # Errors
/// When the file cannot be read, or what is in it cannot be used; all of it is named.
pub fn fields(path: &Path, farm: &FarmConfig) -> anyhow::Result<Vec<FieldConfig>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        #[serde(default)]
        field: Vec<FieldConfig>,
    }
    let Some(text) = by_hand(path)? else { return Ok(irrigated(farm)) };
    let read = proto::document::read(&text).map_err(|unread| unread.mistakes.iter().map(ToString::to_string).collect());
    let checked = read.and_then(|Fields { field }| {
        let wrong = gateway::decide::config::check(&field);
        let said = |(key, value, expected)| format!("{key} = {value} is not {expected}");
        if wrong.is_empty() { Ok(field) } else { Err(wrong.into_iter().map(said).collect()) }
    });
    refuse("fields", path, checked)
}

/// How a simulated field is irrigated, as the gateway is to know it.
fn system(of: &node_sim::field::Irrigation) -> IrrigationConfig {
    let kind = match of.system {
        None | Some(System::Sprinkler { .. }) => SystemKind::Sprinkler,
        Some(System::Drip { .. }) => SystemKind::Drip,
        Some(System::Pivot { .. }) => SystemKind::Pivot,
    };
    let equipment = Equipment::new(of.system.as_ref(), of.rate_mm_h);
    let config = IrrigationConfig {
        efficiency: Some(equipment.efficiency),
        expire_minutes: EXPIRE_MINUTES,
        ..IrrigationConfig::new(kind, equipment.rate_mm_h, MOST_MINUTES)
    };
    // In a part of a turn a pivot waters a part of its field. One that does not get round in a day goes on each day from where it stands.
    let turn_minutes = equipment.pivot.map(|(rotation_h, _)| (60.0 * rotation_h).ceil() as u32);
    match turn_minutes {
        None => config,
        Some(turn) if turn > MAX_MINUTES => IrrigationConfig { max_minutes: MAX_MINUTES, ..config },
        Some(turn) => {
            let max_minutes = MAX_MINUTES / turn * turn;
            IrrigationConfig { min_minutes: turn, step_minutes: turn, max_minutes, ..config }
        }
    }
}

/// A month's mean reference evapotranspiration of a day, mm, and what else asks for water in it.
struct Month {
    reference_mm: f64,
    climate: Climate,
}

/// The thirstiest month of the year before a farm's start. None where its weather cannot be had, as node-sim will say.
fn thirstiest_month(farm: &FarmConfig) -> Option<Month> {
    const DAYS: i64 = 30;
    let mut weather = farm.open().ok()?.weather;
    let mut month = |back: i64| {
        let (mut reference_mm, mut wind_m_s, mut least_humidity_pct) = (0.0, 0.0, 0.0);
        for day in -DAYS * back..-DAYS * (back - 1) {
            let mut least = 100.0_f64;
            for hour in 0..24 {
                let hour = weather.at(farm.start.plus_secs(3600 * (24 * day + hour)));
                (reference_mm, wind_m_s) = (reference_mm + hour.et0_mm_h, wind_m_s + hour.wind_speed_m_s / 24.0);
                least = least.min(hour.relative_humidity_pct);
            }
            least_humidity_pct += least;
        }
        let [reference_mm, wind_m_s, least_humidity_pct] =
            [reference_mm, wind_m_s, least_humidity_pct].map(|sum| sum / DAYS as f64);
        Month { reference_mm, climate: Climate { wind_m_s, least_humidity_pct } }
    };
    (1..=12).map(&mut month).max_by(|a, b| a.reference_mm.total_cmp(&b.reference_mm))
}

/// What a crop uses a day in mid-season, ETc, mm: FAO-56's Kcb for the climate (eq. 70) and 0.05 for the soil (tables 12 and 17), times the
/// month's reference.
fn etc_mm_per_day(crop: Crop, month: &Month) -> f64 {
    let parameters = crop.parameters();
    let mid_season = Growth { grows: true, gdd: parameters.stage_ends_gdd[1] };
    let kc = Coefficients::of(&mid_season.canopy(crop), &month.climate).kcb + 0.05;
    (10.0 * kc * month.reference_mm).round().clamp(5.0, 200.0) / 10.0
}

/// The simulated fields, as the gateway is to decide on them: advice where they irrigate by a schedule of their own, commands where
/// they do not. Their day is the solar one. What a crop uses a day is told for the thirstiest month, in which water must not be late.
fn irrigated(farm: &FarmConfig) -> Vec<FieldConfig> {
    let month = thirstiest_month(farm);
    let names = farm.station_names();
    let of = |index: usize| names.iter().filter(move |(_, field)| *field == index).map(|(station, _)| station.clone());
    let field = |(index, field): (usize, node_sim::field::FieldConfig)| FieldConfig {
        root_depth_m: Some(field.crop.parameters().root_depth_m),
        depletion_fraction: Some(field.crop.parameters().depletion_fraction),
        etc_mm_per_day: month.as_ref().map(|month| etc_mm_per_day(field.crop, month)),
        field_capacity: Some(field.field_capacity()),
        wilting_point: Some(field.wilting_point()),
        valves: of(index).take(1).collect(),
        auto: !field.irrigation.scheduled,
        utc_offset_h: (farm.longitude / 15.0 * 4.0).round() / 4.0,
        ..FieldConfig::new(field.id, of(index).take(ASKED).collect(), system(&field.irrigation))
    };
    farm.fields().into_iter().enumerate().map(field).filter(|field| !field.stations.is_empty()).collect()
}

/// Where stations are added to a farm's gateway while it runs.
#[must_use]
pub fn credentials_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("config/credentials.d")
}

/// The gateway's sources, written by hand in a file of `[[source]]` tables; none when it is not there.
///
/// # Errors
/// When it cannot be read, or what is in it cannot be used; all of it is named.
pub fn sources(path: &Path) -> anyhow::Result<Vec<SourceConfig>> {
    let Some(text) = by_hand(path)? else { return Ok(Vec::new()) };
    refuse("sources", path, gateway::decode::source::read(&text))
}

/// What somebody wrote into a file; none when it is not there.
fn by_hand(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Names the file in each line of what is wrong with it.
fn refuse<T>(what: &str, path: &Path, read: Result<T, Vec<String>>) -> anyhow::Result<T> {
    read.map_err(|wrong: Vec<String>| {
        let lines: Vec<String> = wrong.iter().map(|wrong| format!("{what} {}: {wrong}", path.display())).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// Makes a directory that only its owner enters.
fn private_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

fn gateway_id() -> anyhow::Result<GatewayId> {
    Ok(GATEWAY.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_sim::weather::Climate as Weather;

    #[test]
    fn sources_are_a_file_of_their_own_and_what_is_wrong_in_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sources.toml");
        assert_eq!(sources(&file).unwrap(), []);
        fs::write(&file, "[[source]]\nkind = \"sparkplug\"\nhost_id = \"home\"\n").unwrap();
        let read = sources(&file).unwrap();
        assert_eq!((read.len(), read[0].kind.name()), (1, "sparkplug"));
        fs::write(&file, "[[source]]\nkind = \"sparkplug\"\nhost_id = \"a/b\"\nrebirth_s = 0\n").unwrap();
        let error = sources(&file).unwrap_err().to_string();
        for part in ["sources.toml: source[0].host_id = \"a/b\"", "sources.toml: source[0].rebirth_s = 0"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        fs::write(&file, "[[sources]]\n").unwrap();
        assert!(format!("{:#}", sources(&file).unwrap_err()).contains("unknown field `sources`"));
    }

    #[test]
    fn the_gateway_decides_on_the_simulated_fields_unless_a_file_names_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fields.toml");
        let farm = FarmConfig { stations: 5, ..FarmConfig::default() };
        let simulated = fields(&file, &farm).unwrap();
        let north = &simulated[0];
        assert_eq!(simulated.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["north", "east", "creek"]);
        assert_eq!((north.stations.len(), north.valves.len(), north.auto), (2, 1, false));
        assert_eq!(gateway::decide::config::check(&simulated), []);
        let even = IrrigationConfig { efficiency: Some(1.0), expire_minutes: EXPIRE_MINUTES, ..north.irrigation };
        assert_eq!((north.irrigation, even.kind, even.application_mm_per_h), (even, SystemKind::Sprinkler, 6.0));
        let left_farm = left_to_the_gateway(farm.clone());
        let left = fields(&file, &left_farm).unwrap();
        assert!(left.iter().all(|field| field.auto) && gateway::decide::config::check(&left).is_empty());
        // Its soil is measured to where roots are, once at each depth, and the crops' use is that of Fallon's July: alfalfa, maize, pasture.
        let depths = |farm: &FarmConfig| {
            let moisture = farm.sensors.channels().into_iter().filter(|c| c.quantity == Quantity::SoilMoisture);
            moisture.filter_map(|channel| channel.level_cm).collect::<Vec<_>>()
        };
        assert_eq!(depths(&farm), [10, 20, 40]);
        assert_eq!(depths(&left_to_the_gateway(left_farm.clone())), [10, 20, 40, 60, 80]);
        assert!(left_farm.open().is_ok());
        let uses: Vec<f64> = simulated.iter().map(|field| field.etc_mm_per_day.unwrap()).collect();
        assert!(uses.iter().all(|mm| (5.0..9.0).contains(mm)) && uses[1] > uses[2] + 1.0, "{uses:?}");
        let cool = Weather { mean_c: 6.0, ..farm.climate };
        let cooler = fields(&file, &FarmConfig { climate: cool, ..farm.clone() }).unwrap();
        assert!(cooler[1].etc_mm_per_day.unwrap() < uses[1] - 0.3, "{cooler:?}");

        let with = |system| {
            let mut farm = FarmConfig { fields: farm.fields(), ..farm.clone() };
            farm.fields[0].irrigation.system = Some(system);
            let fields = fields(&file, &farm).unwrap();
            assert_eq!(gateway::decide::config::check(&fields), []);
            let config = fields[0].irrigation;
            let minutes = (config.min_minutes, config.step_minutes, config.max_minutes);
            (config.kind, config.application_mm_per_h, config.efficiency.unwrap(), minutes)
        };
        let drip = System::Drip { emitter_l_h: 1.5, emitters_per_m2: 2.0, efficiency: 0.9, wetted: 0.3 };
        assert_eq!(with(drip), (SystemKind::Drip, 3.0, 0.9, (10, 5, 600)));
        assert_eq!(with(System::Sprinkler { efficiency: 0.7 }), (SystemKind::Sprinkler, 6.0, 0.7, (10, 5, 600)));
        let pivot = |rotation_h| System::Pivot { rotation_h, sector_degrees: 10.0, efficiency: 0.8 };
        assert_eq!(with(pivot(10.0)), (SystemKind::Pivot, 6.0, 0.8, (600, 600, 1200)));
        assert_eq!(with(pivot(48.0)), (SystemKind::Pivot, 6.0, 0.8, (10, 5, 1440)));

        fs::write(&file, "").unwrap();
        assert_eq!(fields(&file, &farm).unwrap(), []);
        let field = "[[field]]\nname = \"south\"\nstations = [\"s1\"]\ncrop = \"maize\"\nsoil = \"loam\"\n";
        let irrigation = "[field.irrigation]\nkind = \"drip\"\napplication_mm_per_h = 2.0\nmax_minutes = 300\n";
        fs::write(&file, format!("{field}{irrigation}")).unwrap();
        assert_eq!(fields(&file, &farm).unwrap()[0].name.as_str(), "south");
        fs::write(&file, format!("{field}auto = true\n{irrigation}")).unwrap();
        let error = fields(&file, &farm).unwrap_err().to_string();
        assert!(error.contains("fields.toml: field[0].auto = true is not of use without valves"), "{error}");
    }
}
