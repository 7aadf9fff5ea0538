//! A field: its crop, its soil, its irrigation and where it lies.
//!
//! A field is irrigated by a schedule of its own, decided on a reference column of its nominal soil and crop, so that a
//! season stays what a season is on a farm. The schedule knows nothing of the stations in the field. A command from the
//! gateway irrigates the whole field as well.

use proto::{FieldId, Timestamp};
use serde::{Deserialize, Serialize};

pub use crate::crop::Crop;
use crate::crop::demand::Wetted;
use crate::crop::growth::{Day, Stage};
use crate::crop::stand::{self, Harvest, Stand};
use crate::ground::{self, Brought, Column, Cover, Soil};
use crate::irrigation::{Application, Equipment, Meter, System};
use crate::soil::Texture;
use crate::soil::pedotransfer::Characteristics;
use crate::space::{Boundary, BoundaryConfig, FieldSpace, Site, Variability};
use crate::sun::Place;
use crate::weather::{AnnualTemperature, Conditions};

/// How a field is irrigated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Irrigation {
    /// Whether the field's own schedule runs. Commands are obeyed all the same.
    #[serde(default = "yes")]
    pub scheduled: bool,
    /// mm/h while it runs; 0.5 to 50.
    pub rate_mm_h: f64,
    /// The hour of the solar day at which it may begin, 0 to 24.
    pub start_hour: f64,
    /// How the water is brought; unless given, evenly at `rate_mm_h`, and all of it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// What a cubic metre at the pump costs, in any currency; 0 to 100.
    #[serde(default = "usual_price")]
    pub price_per_m3: f64,
    /// Electrical conductivity of the water, dS/m; 0 to 20.
    #[serde(default = "usual_ec")]
    pub water_ec_ds_m: f64,
    /// Nitrate nitrogen in it, mg/l; 0 to 100.
    #[serde(default)]
    pub nitrate_mg_l: f64,
}

fn yes() -> bool {
    true
}

/// An assumption: some five cents, of which most is the pump's energy.
fn usual_price() -> f64 {
    0.05
}

/// Water without restriction (FAO-29, Ayers and Westcot 1985, table 1: below 0.7 dS/m).
fn usual_ec() -> f64 {
    0.5
}

impl Irrigation {
    /// An even irrigation of good water, by a schedule of the field's own.
    #[must_use]
    pub fn even(rate_mm_h: f64, start_hour: f64) -> Self {
        Self {
            scheduled: true,
            rate_mm_h,
            start_hour,
            system: None,
            price_per_m3: usual_price(),
            water_ec_ds_m: usual_ec(),
            nitrate_mg_l: 0.0,
        }
    }
}

/// Fertiliser that is spread and worked in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fertiliser {
    /// When.
    pub at: Timestamp,
    /// Nitrogen, kg/ha; it counts as nitrate.
    #[serde(default)]
    pub n_kg_ha: f64,
    /// Phosphorus, kg/ha.
    #[serde(default)]
    pub p_kg_ha: f64,
    /// Potassium, kg/ha.
    #[serde(default)]
    pub k_kg_ha: f64,
}

/// A field of the farm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Its name in births.
    pub id: FieldId,
    /// Its name for people.
    pub name: String,
    /// What its stations' names begin with: `n` gives n1, n2, ….
    pub prefix: String,
    /// What grows.
    pub crop: Crop,
    /// The soil's texture.
    pub soil: Texture,
    /// How it is irrigated.
    pub irrigation: Irrigation,
    /// Degrees north of the field's middle.
    pub latitude: f64,
    /// Degrees east of the field's middle.
    pub longitude: f64,
    /// Electrical conductivity of the soil's water at first, dS/m; 0.1 to 20.
    pub water_ec_ds_m: f64,
    /// Its area, ha, for the water's bill; 0.001 to 10000. Unless given, its boundary's, or [`SQUARE_M2`]. Without a boundary
    /// the field is a square of this area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area_ha: Option<f64>,
    /// Its fertiliser.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fertiliser: Vec<Fertiliser>,
    /// Share of the available water that is missing when the farm begins, 0 (at field capacity) to 1 (at the wilting point), at every
    /// depth; unless given, what the weeks before have left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry: Option<f64>,
    /// Its boundary: a GeoJSON file, or corners. Without one it is a square around its middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<BoundaryConfig>,
    /// Longitude and latitude of its first stations, degrees; the further ones are spread over the field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<[f64; 2]>,
    /// How much its ground varies.
    #[serde(default)]
    pub variability: Variability,
}

impl FieldConfig {
    fn characteristics(&self) -> Characteristics {
        self.soil.composition().characteristics()
    }

    /// Water content at field capacity, m3/m3.
    #[must_use]
    pub fn field_capacity(&self) -> f64 {
        self.characteristics().field_capacity
    }

    /// Water content at the wilting point, m3/m3.
    #[must_use]
    pub fn wilting_point(&self) -> f64 {
        self.characteristics().wilting_point
    }

    /// Water content at which the crop begins to suffer and irrigation is due, m3/m3 (FAO-56 eq. 83: RAW = p TAW).
    #[must_use]
    pub fn refill_point(&self) -> f64 {
        let soil = self.characteristics();
        soil.field_capacity - self.crop.parameters().depletion_fraction * (soil.field_capacity - soil.wilting_point)
    }

    /// The ground that the field covers: within its boundary, or else a square of its area around its middle.
    ///
    /// # Errors
    /// All that is wrong with the boundary and the places in it, each with its key.
    pub fn space(&self, gateway: &Place, seed: u64) -> Result<FieldSpace, Vec<(&'static str, String)>> {
        let boundary = match &self.boundary {
            None => {
                let area_m2 = self.area_ha.map_or(SQUARE_M2, |area_ha| M2_PER_HA * area_ha);
                Boundary::square(self.latitude, self.longitude, area_m2, gateway)
            }
            Some(config) => Boundary::open(config, self.id.as_str(), gateway)
                .map_err(|problems| problems.into_iter().map(|problem| ("boundary", problem)).collect::<Vec<_>>())?,
        };
        let outside: Vec<(&'static str, String)> = self
            .places
            .iter()
            .filter(|[longitude, latitude]| {
                let (east_m, north_m) = boundary.projection().to_metres(*latitude, *longitude);
                !boundary.contains(east_m, north_m)
            })
            .map(|place| ("places", format!("{place:?} (longitude, latitude) is not in the field")))
            .collect();
        if !outside.is_empty() {
            return Err(outside);
        }
        let texture = self.soil.sand_clay_pct();
        Ok(FieldSpace::new(boundary, self.id.as_str(), texture, &self.variability, gateway, seed))
    }

    /// The sites of its first `count` stations on its ground: the given places, then drawn ones.
    ///
    /// # Errors
    /// When the field is too thin for them, with the key.
    pub fn sites(&self, space: &FieldSpace, count: usize) -> Result<Vec<Site>, (&'static str, String)> {
        let given = self.places.iter().map(|[longitude, latitude]| space.site_at(*latitude, *longitude));
        let drawn = space.stations(count.saturating_sub(self.places.len()));
        let sites: Vec<Site> = given.chain(drawn).take(count).collect();
        if sites.len() < count {
            let found = sites.len();
            return Err(("boundary", format!("is so thin that {found} of its {count} stations find a place in it")));
        }
        Ok(sites)
    }

    /// The three fields of the farm that is simulated when none are configured: about half a kilometre around its gateway.
    #[must_use]
    pub fn defaults(place: &Place) -> Vec<Self> {
        let field =
            |id: &str, name: &str, crop, soil, rate_mm_h, start_hour, north: f64, east: f64, water_ec_ds_m| Self {
                id: FieldId::try_from(id.to_owned()).expect("a valid field name"),
                name: name.to_owned(),
                prefix: id[..1].to_owned(),
                crop,
                soil,
                irrigation: Irrigation::even(rate_mm_h, start_hour),
                latitude: place.latitude + north,
                longitude: place.longitude + east,
                water_ec_ds_m,
                area_ha: None,
                fertiliser: Vec::new(),
                dry: None,
                boundary: None,
                places: Vec::new(),
                variability: Variability::default(),
            };
        vec![
            field("north", "North field", Crop::Alfalfa, Texture::Loam, 6.0, 20.0, 0.0045, -0.0010, 2.0),
            field("east", "East field", Crop::Maize, Texture::SandyLoam, 8.0, 22.0, 0.0005, 0.0060, 1.5),
            field("creek", "Creek meadow", Crop::Pasture, Texture::ClayLoam, 3.5, 18.0, -0.0045, -0.0015, 3.0),
        ]
    }
}

/// The area of a field whose boundary is not known, m2: twelve hectares.
pub const SQUARE_M2: f64 = 120_000.0;
/// Square metres of a hectare.
const M2_PER_HA: f64 = 10_000.0;

/// Irrigation begins when this share of what the crop takes without stress is gone.
const START_SHARE: f64 = 0.9;
/// The most that one irrigation gives, mm on the soil.
const MOST_MM: f64 = 40.0;
/// The depth whose water decides on the field's own irrigation: the roots', within these, mm.
const WATCHED_MM: std::ops::RangeInclusive<f64> = 300.0..=1000.0;
/// Rain that wets all the ground again after an irrigation that did not, mm (FAO-56 chapter 7, on fw).
const WETTING_RAIN_MM: f64 = 3.0;

/// A field as it is simulated: its crop, the reference column, its irrigation, and the schedule that looks at them.
#[derive(Debug, Clone)]
pub struct Field {
    irrigation: Irrigation,
    equipment: Equipment,
    area_ha: f64,
    fertiliser: Vec<Fertiliser>,
    stand: Stand,
    reference: Column,
    /// The ground as it were if all irrigation had come, which is what the schedule believes; only where some does not.
    believed: Option<Column>,
    control: Control,
}

/// What changes in a field beside its crop and its ground.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    irrigating_until: Timestamp,
    /// Irrigation by command that is still to come, h.
    commanded_h: f64,
    /// Where a pivot's arm stands, degrees clockwise from north.
    arm_degrees: f64,
    meter: Meter,
    /// Share of the ground that the last water wetted, and the rain since an irrigation, mm.
    wetted: f64,
    rain_since_mm: f64,
    /// Up to when fertiliser was given, and the meter's and the nutrients' count begins.
    fertilised: Timestamp,
    counted_from: Timestamp,
}

/// What changes in a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldState {
    control: Control,
    stand: stand::State,
    reference: ground::State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    believed: Option<ground::State>,
}

/// What a field's step brings to the places in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldStep {
    /// The irrigation.
    pub irrigation: Application,
    /// What is in the irrigation's water: conductivity, dS/m, and nitrate nitrogen, mg/l.
    pub water: (f64, f64),
    /// Nitrogen, phosphorus and potassium that were spread at its beginning, kg/ha.
    pub fertiliser: Option<[f64; 3]>,
    /// What grows.
    pub cover: Cover,
}

impl FieldStep {
    /// What comes to a place in this direction from the field's middle, degrees clockwise from north, with these shares of rain and
    /// irrigation.
    #[must_use]
    pub fn brought(&self, direction_degrees: f64, rain_mm_h: f64, irrigation_share: f64) -> Brought {
        Brought {
            rain_mm_h,
            irrigation_mm_h: self.irrigation.at_mm_h(direction_degrees) * irrigation_share,
            water_ec_ds_m: self.water.0,
            nitrate_mg_l: self.water.1,
        }
    }
}

/// What a field had, used and gave since the farm's start, by its reference column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    /// The field.
    pub field: FieldId,
    /// What grows.
    pub crop: Crop,
    /// From when to when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Its area, ha.
    pub area_ha: f64,
    /// Water that was pumped, m3.
    pub pumped_m3: f64,
    /// What it cost, in the currency of the price.
    pub bill: f64,
    /// Irrigation that reached the soil, mm.
    pub irrigation_mm: f64,
    /// Rain, mm.
    pub rain_mm: f64,
    /// Evaporation, mm.
    pub evaporation_mm: f64,
    /// Transpiration, mm.
    pub transpiration_mm: f64,
    /// Run-off, mm.
    pub runoff_mm: f64,
    /// Drainage below two metres, mm.
    pub drainage_mm: f64,
    /// Nitrate nitrogen in it, kg/ha.
    pub nitrate_leached_kg_ha: f64,
    /// Nitrogen that the crop took up, kg/ha.
    pub nitrogen_taken_kg_ha: f64,
    /// Days on which the crop could not transpire as it would have.
    pub stress_days: u32,
    /// What was harvested.
    pub harvests: Vec<Harvest>,
    /// The share of the potential yield that is left to what stands on the field.
    pub standing_relative_yield: f64,
}

impl Field {
    /// A field at field capacity, with the crop that the days before have grown; `covered_m2` is the area of its ground, and its
    /// irrigation `fails` at some time.
    #[must_use]
    pub fn new(
        config: &FieldConfig,
        covered_m2: f64,
        place: &Place,
        annual: AnnualTemperature,
        before: &[Day],
        time: Timestamp,
        fails: bool,
    ) -> Self {
        let soil = Soil { composition: config.soil.composition(), contents: 1.0, conductivity: 1.0, slope: 0.0 };
        let irrigation = config.irrigation;
        let reference = Column::new(&soil, annual, config.water_ec_ds_m, time);
        Self {
            equipment: Equipment::new(irrigation.system.as_ref(), irrigation.rate_mm_h),
            irrigation,
            area_ha: config.area_ha.unwrap_or((100.0 * covered_m2).round() / 100.0 / M2_PER_HA),
            fertiliser: config.fertiliser.clone(),
            stand: Stand::new(config.crop, place, before),
            believed: fails.then(|| reference.clone()),
            reference,
            control: Control {
                irrigating_until: Timestamp::from_secs(0),
                commanded_h: 0.0,
                arm_degrees: 0.0,
                meter: Meter::default(),
                wetted: 1.0,
                rain_since_mm: 0.0,
                fertilised: time,
                counted_from: time,
            },
        }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> FieldState {
        FieldState {
            control: self.control,
            stand: self.stand.state().clone(),
            reference: self.reference.state(),
            believed: self.believed.as_ref().map(Column::state),
        }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: FieldState) {
        self.control = state.control;
        self.stand.restore(state.stand);
        self.reference.restore(state.reference);
        // A scenario that lets the irrigation fail from now on finds a schedule that was right until now.
        if let Some(believed) = &mut self.believed {
            believed.restore(state.believed.unwrap_or_else(|| self.reference.state()));
        }
    }

    /// What grows, and how it stands.
    #[must_use]
    pub fn stand(&self) -> &Stand {
        &self.stand
    }

    /// The farm begins at a time: everything is counted from here. A share of the available water may be taken from the soil, and
    /// irrigation that runs is then called off.
    pub(crate) fn begin(&mut self, time: Timestamp, dry: Option<f64>) {
        if let Some(share) = dry {
            self.reference.dry(share);
            self.believed.iter_mut().for_each(|believed| believed.dry(share));
            (self.control.irrigating_until, self.control.commanded_h) = (Timestamp::from_secs(0), 0.0);
        }
        self.reference.forget();
        self.stand.forget();
        (self.control.meter, self.control.counted_from) = (Meter::default(), time);
    }

    /// Irrigates the field for a time, after what was commanded before; at most a day altogether.
    pub fn irrigate(&mut self, minutes: u32) {
        self.control.commanded_h = (self.control.commanded_h + f64::from(minutes) / 60.0).min(24.0);
    }

    /// Goes on by a step that begins at `start`, and says what it brings to the places in the field. Of the irrigation this share
    /// `comes`, because a pump or a pipe is not as it should be.
    pub fn step(
        &mut self,
        start: Timestamp,
        hours: f64,
        conditions: &Conditions,
        place: &Place,
        comes: f64,
    ) -> FieldStep {
        self.stand.begin(place, start);
        self.decide(start, hours, place);
        let control = &mut self.control;
        let commanded_h = control.commanded_h.min(hours);
        control.commanded_h -= commanded_h;
        let running = if start < control.irrigating_until { 1.0 } else { commanded_h / hours };
        let wanted = self.equipment.application(hours, running, control.arm_degrees);
        let irrigation = wanted.reduced(comes);
        control.arm_degrees = (control.arm_degrees + irrigation.turned).rem_euclid(360.0);
        control.meter.count(self.equipment.rate_mm_h * hours * running * comes, self.area_ha);
        if running > 0.0 {
            (control.wetted, control.rain_since_mm) = (self.equipment.wetted, 0.0);
        }
        control.rain_since_mm += conditions.rain_mm_h * hours;
        if control.rain_since_mm >= WETTING_RAIN_MM {
            control.wetted = 1.0;
        }
        let wetted = Wetted { share: self.control.wetted, by_drippers: self.equipment.by_drippers };
        let fertiliser = self.fertiliser_until(start);
        let step = FieldStep {
            irrigation,
            water: (self.irrigation.water_ec_ds_m, self.irrigation.nitrate_mg_l),
            fertiliser,
            cover: Cover { wetted, ..*self.stand.cover() },
        };
        if let Some(kg_ha) = fertiliser {
            self.reference.fertilise(kg_ha);
        }
        // The reference stands for the field: it gets what the field gets on the mean.
        let brought = Brought { irrigation_mm_h: irrigation.mean_mm_h, ..step.brought(0.0, conditions.rain_mm_h, 0.0) };
        let used = self.reference.step(start, hours, conditions, &brought, &step.cover);
        if let Some(believed) = &mut self.believed {
            if let Some(kg_ha) = fertiliser {
                believed.fertilise(kg_ha);
            }
            let brought = Brought { irrigation_mm_h: wanted.mean_mm_h, ..brought };
            believed.step(start, hours, conditions, &brought, &step.cover);
        }
        self.stand.end(hours, conditions, &used);
        step
    }

    /// The field's own schedule: at its hour, when the crop has used up what it takes without stress.
    fn decide(&mut self, start: Timestamp, hours: f64, place: &Place) {
        let (_, hour) = place.solar_day(start);
        let due = (hour - self.irrigation.start_hour).rem_euclid(24.0) < hours;
        if !self.irrigation.scheduled || !due || start < self.control.irrigating_until {
            return;
        }
        let canopy = self.stand.canopy();
        let watched_mm = (1000.0 * canopy.root_depth_m).clamp(*WATCHED_MM.start(), *WATCHED_MM.end());
        let ground = self.believed.as_ref().unwrap_or(&self.reference);
        let (missing_mm, total_mm) = ground.depletion_mm(watched_mm);
        if canopy.stage == Stage::Bare || missing_mm < START_SHARE * self.stand.cover().depletion_fraction * total_mm {
            return;
        }
        let mut runs_h = missing_mm.min(MOST_MM) / (self.equipment.rate_mm_h * self.equipment.efficiency);
        if let Some((rotation_h, _)) = self.equipment.pivot {
            runs_h = (runs_h / rotation_h).round().max(1.0) * rotation_h;
        }
        self.control.irrigating_until = start.plus_millis((runs_h * 3_600_000.0) as i64);
    }

    /// What was to be spread since the last step and up to this time.
    fn fertiliser_until(&mut self, time: Timestamp) -> Option<[f64; 3]> {
        let since = std::mem::replace(&mut self.control.fertilised, time);
        let due = self.fertiliser.iter().filter(|event| since < event.at && event.at <= time);
        due.map(|event| [event.n_kg_ha, event.p_kg_ha, event.k_kg_ha])
            .reduce(|a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
    }

    /// What the field had, used and gave since the farm's start.
    #[must_use]
    pub fn season(&self, field: FieldId, until: Timestamp) -> Season {
        let sums = self.reference.sums();
        let pumped_m3 = self.control.meter.pumped_m3;
        Season {
            field,
            crop: self.stand.crop(),
            from: self.control.counted_from,
            until,
            area_ha: self.area_ha,
            pumped_m3,
            bill: pumped_m3 * self.irrigation.price_per_m3,
            irrigation_mm: sums.irrigation_mm,
            rain_mm: sums.rain_mm,
            evaporation_mm: sums.evaporation_mm,
            transpiration_mm: sums.transpiration_mm,
            runoff_mm: sums.runoff_mm,
            drainage_mm: sums.drainage_mm,
            nitrate_leached_kg_ha: sums.nitrate_leached_kg_ha,
            nitrogen_taken_kg_ha: sums.nitrogen_taken_kg_ha,
            stress_days: self.stand.stress_days(),
            harvests: self.stand.harvests().to_vec(),
            standing_relative_yield: self.stand.relative_yield(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refill_point_lies_between_wilting_and_capacity() {
        let place = Place { latitude: 39.0, longitude: -119.0, elevation_m: 1200.0 };
        for field in FieldConfig::defaults(&place) {
            assert!(field.wilting_point() < field.refill_point() && field.refill_point() < field.field_capacity());
        }
    }

    #[test]
    fn stations_stand_where_they_are_told_to_and_then_within_the_boundary() {
        let place = Place { latitude: 39.4575, longitude: -118.7739, elevation_m: 1208.5 };
        let corners = vec![[-118.774, 39.460], [-118.770, 39.460], [-118.772, 39.464]];
        let field = FieldConfig {
            boundary: Some(BoundaryConfig::Ring(corners)),
            places: vec![[-118.772, 39.461]],
            ..FieldConfig::defaults(&place).remove(0)
        };
        let space = field.space(&place, 1).unwrap();
        let sites = field.sites(&space, 6).unwrap();
        assert_eq!(sites.len(), 6);
        assert!((sites[0].latitude - 39.461).abs() < 1e-9 && (sites[0].longitude + 118.772).abs() < 1e-9);
        assert!(sites.iter().all(|site| space.boundary().contains(site.east_m, site.north_m)));
        let elsewhere = FieldConfig { places: vec![[-118.76, 39.461]], ..field };
        let problems = elsewhere.space(&place, 1).unwrap_err();
        assert_eq!(problems, [("places", "[-118.76, 39.461] (longitude, latitude) is not in the field".to_owned())]);
    }
}
