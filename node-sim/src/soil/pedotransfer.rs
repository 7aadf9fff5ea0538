//! What a soil's composition says of how it holds and conducts water: the equations of Saxton, K. E. and Rawls, W. J. (2006), Soil
//! water characteristic estimates by texture and organic matter for hydrologic solutions, *Soil Sci. Soc. Am. J.* 70, 1569-1578.

/// Millimetres of water column of one kPa.
pub const MM_PER_KPA: f64 = 101.97;
/// Density of the mineral grains, kg/m3 (Saxton and Rawls 2006, eq. 6).
const GRAIN_DENSITY_KG_M3: f64 = 2650.0;
/// The air entry of the sandiest soils, for which the regression gives less than nothing, kPa.
const LEAST_AIR_ENTRY_KPA: f64 = 0.5;

/// What a soil is made of, in per cent of its mass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Composition {
    /// Sand, %.
    pub sand_pct: f64,
    /// Clay, %.
    pub clay_pct: f64,
    /// Organic matter, %; the regressions were made for 0 to 8.
    pub organic_matter_pct: f64,
}

/// How a soil holds and conducts water.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Characteristics {
    /// Water content at -1500 kPa, m3/m3.
    pub wilting_point: f64,
    /// Water content at -33 kPa, m3/m3.
    pub field_capacity: f64,
    /// Water content when all pores are full, m3/m3.
    pub saturation: f64,
    /// Tension at which the first pores empty, kPa.
    pub air_entry_kpa: f64,
    /// Conductivity when saturated, mm/h.
    pub saturated_conductivity_mm_h: f64,
    /// Dry mass of a volume of soil, kg/m3.
    pub bulk_density_kg_m3: f64,
    /// Share of clay in the mass, 0 to 1.
    pub clay: f64,
    /// Share of sand in the mass, 0 to 1.
    pub sand: f64,
}

impl Composition {
    /// The soil's characteristics. Saxton and Rawls (2006) table 1: eq. 1 (1500 kPa), 2 (33 kPa), 3 (saturation to 33 kPa), 4 (air
    /// entry), 5 (saturation), 6 (density), 16 (saturated conductivity), 18 (slope).
    #[must_use]
    pub fn characteristics(&self) -> Characteristics {
        let (s, c, om) = (self.sand_pct / 100.0, self.clay_pct / 100.0, self.organic_matter_pct);
        let first = -0.024 * s + 0.487 * c + 0.006 * om + 0.005 * s * om - 0.013 * c * om + 0.068 * s * c + 0.031;
        let wilting_point = (first + 0.14 * first - 0.02).max(0.02);
        let first = -0.251 * s + 0.195 * c + 0.011 * om + 0.006 * s * om - 0.027 * c * om + 0.452 * s * c + 0.299;
        let field_capacity = (first + 1.283 * first * first - 0.374 * first - 0.015).max(wilting_point + 0.02);
        let first = 0.278 * s + 0.034 * c + 0.022 * om - 0.018 * s * om - 0.027 * c * om - 0.584 * s * c + 0.078;
        let above = (first + 0.636 * first - 0.107).max(0.02);
        let first =
            -21.67 * s - 27.93 * c - 81.97 * above + 71.12 * s * above + 8.29 * c * above + 14.05 * s * c + 27.16;
        let air_entry_kpa = (first + 0.02 * first * first - 0.113 * first - 0.70).clamp(LEAST_AIR_ENTRY_KPA, 30.0);
        let saturation = (field_capacity + above - 0.097 * s + 0.043).max(field_capacity + 0.02);
        let slope = slope(field_capacity, wilting_point);
        Characteristics {
            wilting_point,
            field_capacity,
            saturation,
            air_entry_kpa,
            saturated_conductivity_mm_h: 1930.0 * (saturation - field_capacity).powf(3.0 - 1.0 / slope),
            bulk_density_kg_m3: (1.0 - saturation) * GRAIN_DENSITY_KG_M3,
            clay: c,
            sand: s,
        }
    }
}

/// The slope B of the retention curve between -33 and -1500 kPa on logarithmic scales. Saxton and Rawls (2006) eq. 15.
fn slope(field_capacity: f64, wilting_point: f64) -> f64 {
    (1500f64.ln() - 33f64.ln()) / (field_capacity.ln() - wilting_point.ln())
}

impl Characteristics {
    /// Water content at a pressure head (mm, negative where water is held), m3/m3. Saxton and Rawls (2006) eq. 11 beyond
    /// 33 kPa (and on, beyond 1500 kPa), eq. 12 up to the air entry, eq. 13 to saturation.
    #[must_use]
    pub fn content(&self, head_mm: f64) -> f64 {
        let tension_kpa = -head_mm / MM_PER_KPA;
        if tension_kpa <= self.air_entry_kpa {
            self.saturation
        } else if tension_kpa <= 33.0 {
            let share = (33.0 - tension_kpa) / (33.0 - self.air_entry_kpa);
            self.field_capacity + share * (self.saturation - self.field_capacity)
        } else {
            self.field_capacity * (33.0 / tension_kpa).powf(1.0 / slope(self.field_capacity, self.wilting_point))
        }
    }

    /// Conductivity at a water content, mm/h. Saxton and Rawls (2006) eq. 17.
    #[must_use]
    pub fn conductivity_mm_h(&self, content: f64) -> f64 {
        let exponent = 3.0 + 2.0 * slope(self.field_capacity, self.wilting_point);
        self.saturated_conductivity_mm_h * (content / self.saturation).min(1.0).powf(exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soil::Texture;

    /// Saxton and Rawls (2006) table 3: sand, clay, wilting point, field capacity, saturation (% by volume), conductivity, mm/h, at
    /// 2.5 % organic matter.
    const TABLE_3: [[f64; 6]; 12] = [
        [88.0, 5.0, 5.0, 10.0, 46.0, 108.1],
        [80.0, 5.0, 5.0, 12.0, 46.0, 96.7],
        [65.0, 10.0, 8.0, 18.0, 45.0, 50.3],
        [40.0, 20.0, 14.0, 28.0, 46.0, 15.5],
        [20.0, 15.0, 11.0, 31.0, 48.0, 16.1],
        [10.0, 5.0, 6.0, 30.0, 48.0, 22.0],
        [60.0, 25.0, 17.0, 27.0, 43.0, 11.3],
        [30.0, 35.0, 22.0, 36.0, 48.0, 4.3],
        [10.0, 35.0, 22.0, 38.0, 51.0, 5.7],
        [50.0, 40.0, 25.0, 36.0, 44.0, 1.4],
        [10.0, 45.0, 27.0, 41.0, 52.0, 3.7],
        [25.0, 50.0, 30.0, 42.0, 50.0, 1.1],
    ];

    #[test]
    fn soils_are_those_of_saxton_and_rawls_table_3() {
        let classes: Vec<(f64, f64)> = TABLE_3.iter().map(|row| (row[0], row[1])).collect();
        assert!(Texture::ALL.iter().all(|texture| classes.contains(&texture.sand_clay_pct())));
        for [sand_pct, clay_pct, wilting, capacity, saturation, conductivity] in TABLE_3 {
            let soil = Composition { sand_pct, clay_pct, organic_matter_pct: 2.5 }.characteristics();
            for (computed, published) in
                [(soil.wilting_point, wilting), (soil.field_capacity, capacity), (soil.saturation, saturation)]
            {
                assert!((100.0 * computed - published).abs() < 0.7, "{sand_pct} {clay_pct}: {computed} {published}");
            }
            let ratio = soil.saturated_conductivity_mm_h / conductivity;
            assert!((0.9..1.1).contains(&ratio), "{sand_pct} {clay_pct}: {ratio}");
        }
    }

    #[test]
    fn the_curve_goes_through_its_points() {
        let soil = Composition { sand_pct: 40.0, clay_pct: 20.0, organic_matter_pct: 2.5 }.characteristics();
        for (kpa, content) in [
            (0.0, soil.saturation),
            (33.0, soil.field_capacity),
            (33.1, soil.field_capacity),
            (1500.0, soil.wilting_point),
        ] {
            assert!((soil.content(-kpa * MM_PER_KPA) - content).abs() < 2e-4, "{kpa} kPa");
        }
        assert_eq!(soil.conductivity_mm_h(soil.saturation), soil.saturated_conductivity_mm_h);
    }
}
