//! Where stations stand in a field when nobody has said it: spread evenly, and not in a pattern.
//!
//! Balanced acceptance sampling (Robertson, Brown, McDonald and Jaksons 2013): the points of a Halton sequence with a random start over
//! the field's bounding box, as far as they lie in the field. Any number of them in a row is spread evenly, so that the first stations stay
//! where they are when more are added.

use super::boundary::Boundary;
use crate::chance::Chance;

/// Box points looked at for each station before a field is given up as too thin; the start is within 2^20 points.
const TRIES: u64 = 200_000;

/// The first `count` places in a field, m east and north, or fewer when the field is thinner than a two hundred thousandth of its box.
#[must_use]
pub fn places(boundary: &Boundary, seed: u64, label: &str, count: usize) -> Vec<(f64, f64)> {
    let mut draw = Chance::new(seed, &format!("space/places/{label}")).at(0);
    let start = [0, 1].map(|_| (draw.uniform() * f64::from(1 << 20)) as u64);
    let (low, high) = boundary.extent();
    let mut places = Vec::with_capacity(count);
    let mut since = 0;
    for index in 0.. {
        if places.len() == count || since == TRIES {
            break;
        }
        let east = low[0] + (high[0] - low[0]) * radical_inverse(start[0] + index, 2);
        let north = low[1] + (high[1] - low[1]) * radical_inverse(start[1] + index, 3);
        since += 1;
        if boundary.contains(east, north) {
            places.push((east, north));
            since = 0;
        }
    }
    places
}

/// The digits of a number behind the point, in reverse order (Halton 1960).
fn radical_inverse(mut number: u64, base: u64) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0);
    while number > 0 {
        digit /= base as f64;
        value += digit * (number % base) as f64;
        number /= base;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sun::Place;

    const GATEWAY: Place = Place { latitude: 39.4575, longitude: -118.7739, elevation_m: 1208.5 };

    fn square() -> Boundary {
        Boundary::square(39.46, -118.77, 90_000.0, &GATEWAY)
    }

    /// The mean distance to the nearest other place.
    fn spread(places: &[(f64, f64)]) -> f64 {
        let nearest = |i: usize| {
            let distance = |j: usize| (places[i].0 - places[j].0).hypot(places[i].1 - places[j].1);
            (0..places.len()).filter(|&j| j != i).map(distance).fold(f64::INFINITY, f64::min)
        };
        (0..places.len()).map(nearest).sum::<f64>() / places.len() as f64
    }

    #[test]
    fn digits_are_reversed() {
        assert_eq!([1, 2, 3, 4].map(|n| radical_inverse(n, 2)), [0.5, 0.25, 0.75, 0.125]);
        assert!((radical_inverse(5, 3) - 7.0 / 9.0).abs() < 1e-15);
    }

    #[test]
    fn places_are_in_the_field_stay_when_more_come_and_lie_wider_than_by_chance() {
        let field = square();
        let (few, many) = (places(&field, 1, "north", 10), places(&field, 1, "north", 64));
        assert_eq!(few[..], many[..10]);
        assert!(many.iter().all(|&(e, n)| field.contains(e, n)));
        assert_ne!(places(&field, 2, "north", 10), few);
        // Clark and Evans (1954): by chance the mean distance to the nearest of n in an area A is 0.5 sqrt(A/n).
        let by_chance = 0.5 * (90_000.0f64 / 64.0).sqrt();
        let mean = (0..10).map(|seed| spread(&places(&field, seed, "north", 64))).sum::<f64>() / 10.0;
        assert!(mean > 1.15 * by_chance, "{mean} for {by_chance}");
    }

    #[test]
    fn every_quarter_of_a_field_has_its_share() {
        let field = square();
        let (middle_e, middle_n) = field.centre();
        for seed in 0..10 {
            let places = places(&field, seed, "north", 32);
            let mut counts = [0; 4];
            for (e, n) in places {
                counts[usize::from(e > middle_e) + 2 * usize::from(n > middle_n)] += 1;
            }
            // By chance one in four quarters of a binomial would be outside 6 to 10.
            assert!(counts.iter().all(|count| (6..=10).contains(count)), "{counts:?}");
        }
    }
}
