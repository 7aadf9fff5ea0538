//! A field's boundary: read from GeoJSON (RFC 7946), checked, and brought to metres.

use std::f64::consts::PI;

use geo::{Area, BoundingRect, Centroid, Contains, Coord, LineString, MultiPolygon, Point, Polygon, Validation};
use geojson::{Feature, GeoJson, Geometry, GeometryValue, Position};
use serde::{Deserialize, Serialize};

use crate::sun::Place;

/// The smallest and the largest field, m2: a garden bed, and ten thousand hectares.
const AREA_M2: std::ops::RangeInclusive<f64> = 10.0..=1e8;
/// How far a corner may be from the gateway, degrees.
const REACH_DEGREES: f64 = 1.0;
/// The most corners: what a surveyor's machine leaves behind, with room.
const MAX_CORNERS: usize = 20_000;

/// A boundary in a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BoundaryConfig {
    /// A GeoJSON file: a polygon, a feature with one, or a collection in which the feature's `id`, `properties.id` or
    /// `properties.name` is the field's name (or which has one feature only).
    File(std::path::PathBuf),
    /// The corners, `[[longitude, latitude], …]`, in degrees of WGS84, the first need not be repeated at the end.
    Ring(Vec<[f64; 2]>),
}

/// Between degrees of WGS84 and metres around a point: the plane that touches the ellipsoid there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection {
    latitude: f64,
    longitude: f64,
    metres_per_degree_north: f64,
    metres_per_degree_east: f64,
}

/// The ground that a field covers, in metres east and north of the projection's origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    projection: Projection,
    polygons: MultiPolygon<f64>,
}

impl Projection {
    /// Around a place.
    ///
    /// Metres per degree are the ellipsoid's radii of curvature in the meridian, a(1 - e²)/(1 - e² sin² φ)^(3/2), and in
    /// the prime vertical, a/(1 - e² sin² φ)^(1/2), times cos φ (Snyder 1987, eq. 4-18 to 4-20), with WGS84's a = 6 378 137 m and
    /// e² = 0.006 694 38. Ten kilometres away a position is wrong by some ten metres north, and distances by a thousandth.
    #[must_use]
    pub fn around(place: &Place) -> Self {
        const A_M: f64 = 6_378_137.0;
        const E2: f64 = 0.006_694_379_990_14;
        let phi = place.latitude.to_radians();
        let w = 1.0 - E2 * phi.sin().powi(2);
        Self {
            latitude: place.latitude,
            longitude: place.longitude,
            metres_per_degree_north: A_M * (1.0 - E2) / w.powf(1.5) * PI / 180.0,
            metres_per_degree_east: A_M / w.sqrt() * phi.cos() * PI / 180.0,
        }
    }

    /// Metres east and north of the origin.
    #[must_use]
    pub fn to_metres(&self, latitude: f64, longitude: f64) -> (f64, f64) {
        (
            (longitude - self.longitude) * self.metres_per_degree_east,
            (latitude - self.latitude) * self.metres_per_degree_north,
        )
    }

    /// Latitude and longitude, degrees.
    #[must_use]
    pub fn to_degrees(&self, east_m: f64, north_m: f64) -> (f64, f64) {
        (self.latitude + north_m / self.metres_per_degree_north, self.longitude + east_m / self.metres_per_degree_east)
    }
}

impl Boundary {
    /// The boundary of the field with this name, from a configuration.
    ///
    /// # Errors
    /// All that is wrong with it, each a sentence without the key.
    pub fn open(config: &BoundaryConfig, field: &str, gateway: &Place) -> Result<Self, Vec<String>> {
        match config {
            BoundaryConfig::Ring(corners) => {
                let mut ring: Vec<[f64; 2]> = corners.clone();
                if ring.first() != ring.last() {
                    ring.extend(ring.first().copied());
                }
                Self::of_rings(&[vec![ring]], gateway)
            }
            BoundaryConfig::File(path) => {
                let in_file = |problem: String| format!("{path:?}: {problem}");
                let text =
                    std::fs::read_to_string(path).map_err(|error| vec![in_file(format!("cannot be read: {error}"))])?;
                Self::from_geojson(&text, field, gateway)
                    .map_err(|problems| problems.into_iter().map(in_file).collect())
            }
        }
    }

    /// The boundary of the field with this name, from the text of a GeoJSON file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_geojson(text: &str, field: &str, gateway: &Place) -> Result<Self, Vec<String>> {
        let json: GeoJson = text.parse().map_err(|error| vec![format!("is no GeoJSON: {error}")])?;
        let geometry = match json {
            GeoJson::Geometry(geometry) => geometry,
            GeoJson::Feature(feature) => {
                feature.geometry.ok_or_else(|| vec!["its feature has no geometry".to_owned()])?
            }
            GeoJson::FeatureCollection(collection) => {
                choose(collection.features, field).map_err(|problem| vec![problem])?
            }
        };
        let polygons = match geometry.value {
            GeometryValue::Polygon { coordinates } => vec![coordinates],
            GeometryValue::MultiPolygon { coordinates } => coordinates,
            other => return Err(vec![format!("is a {}, not a Polygon or MultiPolygon", other.type_name())]),
        };
        let corner = |position: &Position| [position[0], position[1]];
        let polygons: Vec<Vec<Vec<[f64; 2]>>> =
            polygons.iter().map(|rings| rings.iter().map(|ring| ring.iter().map(corner).collect()).collect()).collect();
        Self::of_rings(&polygons, gateway)
    }

    /// From polygons of closed rings of longitude and latitude, the first ring of each the outer one.
    fn of_rings(polygons: &[Vec<Vec<[f64; 2]>>], gateway: &Place) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let named = |polygon: usize, ring: usize| {
            let ring = if ring == 0 { "outer ring".to_owned() } else { format!("hole {ring}") };
            if polygons.len() > 1 { format!("polygon {}, {ring}", polygon + 1) } else { ring }
        };
        if polygons.is_empty() || polygons.iter().any(Vec::is_empty) {
            problems.push("has a polygon without a ring".to_owned());
        }
        if polygons.iter().flatten().map(Vec::len).sum::<usize>() > MAX_CORNERS {
            return Err(vec![format!("has more than {MAX_CORNERS} corners")]);
        }
        for (p, rings) in polygons.iter().enumerate() {
            for (r, ring) in rings.iter().enumerate() {
                if ring.len() < 4 {
                    problems.push(format!(
                        "{}: has {} positions; a closed ring has at least 4",
                        named(p, r),
                        ring.len()
                    ));
                } else if ring.first() != ring.last() {
                    problems.push(format!("{}: does not end where it begins", named(p, r)));
                }
                let far = |corner: &&[f64; 2]| {
                    let near = |value: f64, from: f64| (value - from).abs() <= REACH_DEGREES;
                    !(near(corner[0], gateway.longitude) && near(corner[1], gateway.latitude))
                };
                if let Some([longitude, latitude]) = ring.iter().find(far) {
                    let swapped = (latitude - gateway.longitude).abs() <= REACH_DEGREES
                        && (longitude - gateway.latitude).abs() <= REACH_DEGREES;
                    let hint = if swapped { "; GeoJSON has the longitude first" } else { "" };
                    problems.push(format!(
                        "{}: [{longitude}, {latitude}] is not within a degree of the gateway at [{}, {}]{hint}",
                        named(p, r),
                        gateway.longitude,
                        gateway.latitude
                    ));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let projection = Projection::around(gateway);
        let line = |ring: &Vec<[f64; 2]>| -> LineString<f64> {
            ring.iter()
                .map(|&[longitude, latitude]| {
                    let (x, y) = projection.to_metres(latitude, longitude);
                    Coord { x, y }
                })
                .collect()
        };
        let polygons = MultiPolygon::new(
            polygons.iter().map(|rings| Polygon::new(line(&rings[0]), rings[1..].iter().map(line).collect())).collect(),
        );
        let invalid: Vec<String> = polygons.validation_errors().iter().map(ToString::to_string).collect();
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let boundary = Self { projection, polygons };
        if !AREA_M2.contains(&boundary.area_m2()) {
            return Err(vec![format!("its area of {:.0} m2 is not 10 m2 to 10000 ha", boundary.area_m2())]);
        }
        Ok(boundary)
    }

    /// The square field with this area around a place, for a field of which no boundary is known.
    #[must_use]
    pub fn square(latitude: f64, longitude: f64, area_m2: f64, gateway: &Place) -> Self {
        let projection = Projection::around(gateway);
        let (east, north) = projection.to_metres(latitude, longitude);
        let half = area_m2.sqrt() / 2.0;
        let corner = |e: f64, n: f64| Coord { x: east + e * half, y: north + n * half };
        let ring: LineString<f64> =
            [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)].into_iter().collect();
        Self { projection, polygons: MultiPolygon::new(vec![Polygon::new(ring, Vec::new())]) }
    }

    /// Between its metres and degrees.
    #[must_use]
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Without its holes, m2.
    #[must_use]
    pub fn area_m2(&self) -> f64 {
        self.polygons.unsigned_area()
    }

    /// Whether a point lies in it, not in a hole and not on an edge.
    #[must_use]
    pub fn contains(&self, east_m: f64, north_m: f64) -> bool {
        self.polygons.contains(&Point::new(east_m, north_m))
    }

    /// Its centre of gravity, m east and north; in a hole or outside where the shape is so.
    #[must_use]
    pub fn centre(&self) -> (f64, f64) {
        self.polygons.centroid().map_or((0.0, 0.0), |point| (point.x(), point.y()))
    }

    /// The least and the greatest metres east and north.
    #[must_use]
    pub fn extent(&self) -> ([f64; 2], [f64; 2]) {
        self.polygons
            .bounding_rect()
            .map_or(([0.0; 2], [0.0; 2]), |rect| ([rect.min().x, rect.min().y], [rect.max().x, rect.max().y]))
    }

    /// All its rings, outer ones and holes, as metres east and north: to draw them.
    pub fn rings(&self) -> impl Iterator<Item = Vec<(f64, f64)>> + '_ {
        self.polygons
            .iter()
            .flat_map(|polygon| std::iter::once(polygon.exterior()).chain(polygon.interiors()))
            .map(|ring| ring.coords().map(|corner| (corner.x, corner.y)).collect())
    }
}

/// The geometry of the feature with this name, or of the only one.
fn choose(mut features: Vec<Feature>, field: &str) -> Result<Geometry, String> {
    let names = |feature: &Feature| -> Vec<String> {
        let id = feature.id.as_ref().map(|id| match id {
            geojson::feature::Id::String(id) => id.clone(),
            geojson::feature::Id::Number(id) => id.to_string(),
        });
        let property = |key: &str| {
            feature
                .property(key)
                .and_then(|value| value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|n| n.to_string())))
        };
        [id, property("id"), property("name")].into_iter().flatten().collect()
    };
    let index = match features.iter().position(|feature| names(feature).iter().any(|name| name == field)) {
        Some(index) => index,
        None if features.len() == 1 => 0,
        None => {
            let known: Vec<String> = features.iter().flat_map(&names).take(12).collect();
            return Err(format!(
                "has {} features, none of which is named {field:?} (names: {})",
                features.len(),
                known.join(", ")
            ));
        }
    };
    features.swap_remove(index).geometry.ok_or_else(|| "the field's feature has no geometry".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Place = Place { latitude: 39.4575, longitude: -118.7739, elevation_m: 1208.5 };

    fn read(geometry: &str) -> Result<Boundary, Vec<String>> {
        Boundary::from_geojson(geometry, "north", &GATEWAY)
    }

    fn polygon(rings: &str) -> String {
        format!("{{\"type\":\"Polygon\",\"coordinates\":[{rings}]}}")
    }

    const OUTER: &str = "[[-118.774,39.457],[-118.770,39.457],[-118.770,39.460],[-118.774,39.460],[-118.774,39.457]]";
    const HOLE: &str = "[[-118.773,39.458],[-118.772,39.458],[-118.772,39.459],[-118.773,39.459],[-118.773,39.458]]";

    #[test]
    fn a_polygons_area_is_the_ellipsoids_and_a_hole_is_not_in_it() {
        let whole = read(&polygon(OUTER)).unwrap();
        // A degree at 39.4585 north is 111 024.2 m of latitude and 86 064.5 m of longitude, by the series of the US National Geospatial-Intelligence Agency.
        let area = 0.004 * 86_064.5 * 0.003 * 111_024.2;
        assert!((whole.area_m2() / area - 1.0).abs() < 1e-4, "{} {area}", whole.area_m2());
        let holed = read(&polygon(&format!("{OUTER},{HOLE}"))).unwrap();
        assert!((holed.area_m2() / (area * 11.0 / 12.0) - 1.0).abs() < 1e-3);
        let at = |latitude, longitude| holed.projection().to_metres(latitude, longitude);
        let (e, n) = at(39.4585, -118.7725);
        assert!(whole.contains(e, n) && !holed.contains(e, n));
        let (e, n) = at(39.4575, -118.7735);
        assert!(holed.contains(e, n));
        let (e, n) = at(39.4605, -118.772);
        assert!(!holed.contains(e, n));
        let (latitude, longitude) = holed.projection().to_degrees(e, n);
        assert!((latitude - 39.4605).abs() < 1e-12 && (longitude + 118.772).abs() < 1e-12);
    }

    #[test]
    fn a_feature_is_found_by_its_name() {
        let feature = |id: &str, ring: &str| {
            format!("{{\"type\":\"Feature\",\"properties\":{{\"name\":\"{id}\"}},\"geometry\":{}}}", polygon(ring))
        };
        let all = |features: &[String]| {
            read(&format!("{{\"type\":\"FeatureCollection\",\"features\":[{}]}}", features.join(",")))
        };
        let north = all(&[feature("east", HOLE), feature("north", OUTER)]).unwrap();
        assert_eq!(north, read(&polygon(OUTER)).unwrap());
        assert_eq!(all(&[feature("other", OUTER)]).unwrap(), north);
        assert_eq!(
            all(&[feature("east", HOLE), feature("west", OUTER)]).unwrap_err(),
            ["has 2 features, none of which is named \"north\" (names: east, west)"]
        );
    }

    #[test]
    fn what_is_no_field_is_refused_with_the_reason() {
        for (text, problem) in [
            (
                "{\"type\":\"Point\",\"coordinates\":[-118.77,39.45]}".to_owned(),
                "is a Point, not a Polygon or MultiPolygon",
            ),
            (
                polygon("[[-118.774,39.457],[-118.770,39.457],[-118.774,39.457]]"),
                "outer ring: has 3 positions; a closed ring has at least 4",
            ),
            (
                polygon("[[-118.774,39.457],[-118.770,39.457],[-118.770,39.460],[-118.774,39.460]]"),
                "outer ring: does not end where it begins",
            ),
            (
                polygon("[[39.457,-118.774],[39.457,-118.770],[39.460,-118.770],[39.457,-118.774]]"),
                "outer ring: [39.457, -118.774] is not within a degree of the gateway at [-118.7739, 39.4575]; GeoJSON has the longitude first",
            ),
            (
                polygon("[[-118.774,39.457],[-118.770,39.460],[-118.770,39.457],[-118.774,39.460],[-118.774,39.457]]"),
                "exterior ring has a self-intersection",
            ),
            (
                polygon("[[-118.774,39.457],[-118.773999,39.457],[-118.773999,39.457001],[-118.774,39.457]]"),
                "its area of 0 m2 is not 10 m2 to 10000 ha",
            ),
        ] {
            let problems = read(&text).unwrap_err();
            assert!(problems.iter().any(|found| found.contains(problem)), "{problem}\nnot in {problems:?}");
        }
        let outside = HOLE.replace("-118.773", "-118.783").replace("-118.772", "-118.782");
        let problems = read(&polygon(&format!("{OUTER},{outside}"))).unwrap_err();
        assert!(problems[0].contains("not contained"), "{problems:?}");
        assert!(read("{").unwrap_err()[0].starts_with("is no GeoJSON"));
    }
}
