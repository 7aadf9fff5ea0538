//! A field: its crop, its soil, its irrigation and where it lies.
//!
//! A field is irrigated by a schedule of its own, decided on a reference column of its nominal soil and crop, so that a
//! season stays what a season is on a farm. The schedule knows nothing of the stations in the field. A command from the
//! gateway irrigates the whole field as well.

use proto::{FieldId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::soil::water::{Demand, LAYERS, WaterState};
use crate::soil::{Texture, WaterColumn};
use crate::space::{Boundary, BoundaryConfig, FieldSpace, Site, Variability};
use crate::sun::Place;
use crate::weather::Conditions;

/// What grows. Each crop is simulated at its full size all the year; its stages are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// Alfalfa for hay, averaged over its cuttings.
    Alfalfa,
    /// Grain maize in mid-season.
    Maize,
    /// Grazed pasture.
    Pasture,
    /// Potato in mid-season.
    Potato,
}

/// What of a crop the soil feels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropFacts {
    /// Basal crop coefficient.
    pub kcb: f64,
    /// Share of the ground that the crop shades.
    pub cover: f64,
    /// Share of the available water that it takes without stress, p.
    pub depletion_fraction: f64,
    /// Share of its roots in each layer.
    pub roots: [f64; LAYERS],
}

impl Crop {
    /// FAO-56: Kcb from table 17 in mid-season (alfalfa: table 12's mean over cuttings, less what evaporates), p from
    /// table 22. The roots' shares follow the 40, 30, 20, 10 % rule over the crop's rooting depth.
    #[must_use]
    pub const fn facts(self) -> CropFacts {
        let (kcb, cover, depletion_fraction, roots) = match self {
            Self::Alfalfa => (0.90, 0.85, 0.55, [0.30, 0.25, 0.28, 0.17]),
            Self::Maize => (1.15, 0.80, 0.55, [0.35, 0.27, 0.26, 0.12]),
            Self::Pasture => (0.85, 0.90, 0.60, [0.42, 0.30, 0.22, 0.06]),
            Self::Potato => (1.10, 0.75, 0.35, [0.45, 0.32, 0.20, 0.03]),
        };
        CropFacts { kcb, cover, depletion_fraction, roots }
    }

    /// Its name, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alfalfa => "alfalfa",
            Self::Maize => "maize",
            Self::Pasture => "pasture",
            Self::Potato => "potato",
        }
    }
}

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
}

fn yes() -> bool {
    true
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
    /// Electrical conductivity of the soil's water, dS/m; 0.1 to 20.
    pub water_ec_ds_m: f64,
    /// Share of the available water that is missing when the farm begins, 0 (at field capacity) to 1 (at the wilting point), at every
    /// depth; unless given, what the weeks before have left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry: Option<f64>,
    /// Its boundary: a GeoJSON file, or corners. Its stations then stand in it, instead of around its middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<BoundaryConfig>,
    /// Longitude and latitude of its first stations, degrees; the further ones are spread over the boundary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<[f64; 2]>,
    /// How much its ground varies.
    #[serde(default)]
    pub variability: Variability,
}

impl FieldConfig {
    /// Water content at field capacity, m3/m3.
    #[must_use]
    pub fn field_capacity(&self) -> f64 {
        self.soil.hydraulics().field_capacity
    }

    /// Water content at the wilting point, m3/m3.
    #[must_use]
    pub fn wilting_point(&self) -> f64 {
        self.soil.hydraulics().wilting_point
    }

    /// Water content at which the crop begins to suffer and irrigation is due, m3/m3 (FAO-56 eq. 83: RAW = p TAW).
    #[must_use]
    pub fn refill_point(&self) -> f64 {
        self.field_capacity() - self.crop.facts().depletion_fraction * (self.field_capacity() - self.wilting_point())
    }

    /// The ground that the field covers: within its boundary, or else a square of [`SQUARE_M2`] around its middle.
    ///
    /// # Errors
    /// All that is wrong with the boundary and the places in it, each with its key.
    pub fn space(&self, gateway: &Place, seed: u64) -> Result<FieldSpace, Vec<(&'static str, String)>> {
        let boundary = match &self.boundary {
            None => Boundary::square(self.latitude, self.longitude, SQUARE_M2, gateway),
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
    #[must_use]
    pub fn sites(&self, space: &FieldSpace, count: usize) -> Vec<Site> {
        let given = self.places.iter().map(|[longitude, latitude]| space.site_at(*latitude, *longitude));
        let drawn = space.stations(count.saturating_sub(self.places.len()));
        given.chain(drawn).take(count).collect()
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
                irrigation: Irrigation { scheduled: true, rate_mm_h, start_hour },
                latitude: place.latitude + north,
                longitude: place.longitude + east,
                water_ec_ds_m,
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

/// Irrigation begins when this share of what the crop takes without stress is gone.
const START_SHARE: f64 = 0.9;
/// The most that one irrigation gives, mm.
const MOST_MM: f64 = 40.0;

/// A field as it is simulated: the reference column, and the schedule that looks at it.
#[derive(Debug, Clone)]
pub struct Field {
    crop: CropFacts,
    irrigation: Irrigation,
    reference: WaterColumn,
    irrigating_until: Timestamp,
    /// Irrigation by command that is still to come, h.
    commanded_h: f64,
}

/// What changes in a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldState {
    irrigating_until: Timestamp,
    commanded_h: f64,
    reference: WaterState,
}

impl Field {
    /// A field at field capacity.
    #[must_use]
    pub fn new(config: &FieldConfig) -> Self {
        let soil = config.soil.hydraulics();
        Self {
            crop: config.crop.facts(),
            irrigation: config.irrigation,
            reference: WaterColumn::new(soil, soil.field_capacity),
            irrigating_until: Timestamp::from_secs(0),
            commanded_h: 0.0,
        }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> FieldState {
        FieldState {
            irrigating_until: self.irrigating_until,
            commanded_h: self.commanded_h,
            reference: self.reference.state().clone(),
        }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: FieldState) {
        self.irrigating_until = state.irrigating_until;
        self.commanded_h = state.commanded_h;
        self.reference.restore(state.reference);
    }

    /// What grows.
    #[must_use]
    pub fn crop(&self) -> &CropFacts {
        &self.crop
    }

    /// Takes this share of the available water from the soil.
    pub(crate) fn dry(&mut self, share: f64) {
        self.reference.dry(share);
        (self.irrigating_until, self.commanded_h) = (Timestamp::from_secs(0), 0.0);
    }

    /// Irrigates the field for a time, after what was commanded before; at most a day altogether.
    pub fn irrigate(&mut self, minutes: u32) {
        self.commanded_h = (self.commanded_h + f64::from(minutes) / 60.0).min(24.0);
    }

    /// Goes on by a step that begins at `start`, and gives the irrigation during it, mm/h.
    pub fn step(&mut self, start: Timestamp, hours: f64, conditions: &Conditions, place: &Place) -> f64 {
        if self.irrigation.scheduled && start >= self.irrigating_until {
            let (_, hour) = place.solar_day(start);
            let due = (hour - self.irrigation.start_hour).rem_euclid(24.0) < hours;
            let depletion_mm = self.reference.depletion_mm();
            if due && depletion_mm >= START_SHARE * self.crop.depletion_fraction * self.reference.total_available_mm() {
                let duration_h = depletion_mm.min(MOST_MM) / self.irrigation.rate_mm_h;
                self.irrigating_until = start.plus_millis((duration_h * 3_600_000.0) as i64);
            }
        }
        let commanded_h = self.commanded_h.min(hours);
        self.commanded_h -= commanded_h;
        let share = if start < self.irrigating_until { 1.0 } else { commanded_h / hours };
        let irrigation_mm_h = self.irrigation.rate_mm_h * share;
        self.reference
            .step(hours, &demand(&self.crop, self.crop.cover, conditions, conditions.rain_mm_h + irrigation_mm_h));
        irrigation_mm_h
    }
}

/// What the weather and the crop, covering this share of the ground, ask of the soil.
///
/// FAO-56 eq. 69 and 71 with a constant Kcb: the crop transpires Kcb ET0; wet soil between it evaporates at up to 1.1 ET0.
#[must_use]
pub fn demand(crop: &CropFacts, cover: f64, conditions: &Conditions, supply_mm_h: f64) -> Demand {
    Demand {
        supply_mm_h,
        evaporation_mm_h: 1.1 * (1.0 - cover) * conditions.et0_mm_h,
        transpiration_mm_h: crop.kcb * conditions.et0_mm_h,
        roots: crop.roots,
        depletion_fraction: crop.depletion_fraction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_sum_to_one_and_the_refill_point_lies_between() {
        let place = Place { latitude: 39.0, longitude: -119.0, elevation_m: 1200.0 };
        for field in FieldConfig::defaults(&place) {
            assert!((field.crop.facts().roots.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{}", field.id);
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
        let sites = field.sites(&space, 6);
        assert_eq!(sites.len(), 6);
        assert!((sites[0].latitude - 39.461).abs() < 1e-9 && (sites[0].longitude + 118.772).abs() < 1e-9);
        assert!(sites.iter().all(|site| space.boundary().contains(site.east_m, site.north_m)));
        let elsewhere = FieldConfig { places: vec![[-118.76, 39.461]], ..field };
        let problems = elsewhere.space(&place, 1).unwrap_err();
        assert_eq!(problems, [("places", "[-118.76, 39.461] (longitude, latitude) is not in the field".to_owned())]);
    }
}
