//! Cayenne Low Power Payload: what many LoRaWAN sensors send. Pure.
//!
//! A payload is a row of items, each a channel number, a type and a value in big-endian. The types and their sizes are
//! those of myDevices' table and of the library that goes on with it (ElectronicCats/CayenneLPP 1.3: `src/CayenneLPP.h`).
//! The type numbers are IPSO object numbers less 3200. The polyline (240) has no fixed size and holds no measurement; it
//! is refused with the rest of its payload, for what follows it cannot be found.
//!
//! Names are those of ChirpStack's own Cayenne codec, `temperatureSensor/1`, so that one mapping serves whichever of the
//! two decodes.

/// The longest payload: LoRaWAN's largest (regional parameters: 242 bytes), with room for other carriers.
pub const MAX_BYTES: usize = 1024;

/// One value of a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// `temperatureSensor/1`; with a part at the end for what has several: `gpsLocation/1/latitude`.
    pub name: String,
    /// Its unit, where it has one, as SenML or UCUM write it.
    pub unit: Option<&'static str>,
    /// The value in that unit.
    pub value: f64,
}

/// Why a payload cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CayenneError {
    /// An item of a type that is none of the table's.
    #[error("byte {at}: {kind} is no Cayenne data type")]
    Type {
        /// Where it stands, from 0.
        at: usize,
        /// The type.
        kind: u8,
    },
    /// The payload ends within an item.
    #[error("byte {at}: {what} needs {needs} bytes, {left} are left")]
    Short {
        /// Where the value should begin, from 0.
        at: usize,
        /// The item.
        what: &'static str,
        /// How many bytes it needs.
        needs: usize,
        /// How many there are.
        left: usize,
    },
    /// It is too long.
    #[error("{0} bytes, at most {MAX_BYTES} are taken")]
    Long(usize),
}

/// A number within an item.
struct Number {
    /// Its part of the name; empty where the item has only one.
    part: &'static str,
    /// Its bytes.
    size: usize,
    signed: bool,
    /// What the integer is divided by.
    over: f64,
    unit: Option<&'static str>,
}

const fn unsigned(size: usize, over: f64, unit: Option<&'static str>) -> Number {
    Number { part: "", size, signed: false, over, unit }
}

const fn signed(size: usize, over: f64, unit: Option<&'static str>) -> Number {
    Number { part: "", size, signed: true, over, unit }
}

const fn part(part: &'static str, number: Number) -> Number {
    Number { part, ..number }
}

/// Type, name and numbers.
type Kind = (u8, &'static str, &'static [Number]);

const KINDS: &[Kind] = &[
    (0, "digitalInput", &[unsigned(1, 1.0, None)]),
    (1, "digitalOutput", &[unsigned(1, 1.0, None)]),
    (2, "analogInput", &[signed(2, 100.0, None)]),
    (3, "analogOutput", &[signed(2, 100.0, None)]),
    (100, "genericSensor", &[unsigned(4, 1.0, None)]),
    (101, "illuminanceSensor", &[unsigned(2, 1.0, Some("lx"))]),
    (102, "presenceSensor", &[unsigned(1, 1.0, None)]),
    (103, "temperatureSensor", &[signed(2, 10.0, Some("Cel"))]),
    (104, "humiditySensor", &[unsigned(1, 2.0, Some("%RH"))]),
    (113, "accelerometer", &[AXIS_X, AXIS_Y, AXIS_Z]),
    (115, "barometer", &[unsigned(2, 10.0, Some("hPa"))]),
    (116, "voltage", &[unsigned(2, 100.0, Some("V"))]),
    (117, "current", &[unsigned(2, 1000.0, Some("A"))]),
    (118, "frequency", &[unsigned(4, 1.0, Some("Hz"))]),
    (120, "percentage", &[unsigned(1, 1.0, Some("%"))]),
    (121, "altitude", &[signed(2, 1.0, Some("m"))]),
    (125, "concentration", &[unsigned(2, 1.0, Some("ppm"))]),
    (128, "power", &[unsigned(2, 1.0, Some("W"))]),
    (130, "distance", &[unsigned(4, 1000.0, Some("m"))]),
    (131, "energy", &[unsigned(4, 1000.0, Some("kWh"))]),
    (132, "direction", &[unsigned(2, 1.0, Some("deg"))]),
    (133, "unixTime", &[unsigned(4, 1.0, Some("s"))]),
    (134, "gyrometer", &[TURN_X, TURN_Y, TURN_Z]),
    (135, "colour", &[part("r", COLOUR), part("g", COLOUR), part("b", COLOUR)]),
    (136, "gpsLocation", &[LATITUDE, LONGITUDE, part("altitude", signed(3, 100.0, Some("m")))]),
    (142, "switch", &[unsigned(1, 1.0, None)]),
];

/// 0.001 g for each axis.
const AXIS_X: Number = part("x", signed(2, 1000.0, Some("g")));
const AXIS_Y: Number = part("y", signed(2, 1000.0, Some("g")));
const AXIS_Z: Number = part("z", signed(2, 1000.0, Some("g")));
/// 0.01 degrees a second for each axis.
const TURN_X: Number = part("x", signed(2, 100.0, Some("deg/s")));
const TURN_Y: Number = part("y", signed(2, 100.0, Some("deg/s")));
const TURN_Z: Number = part("z", signed(2, 100.0, Some("deg/s")));
const COLOUR: Number = unsigned(1, 1.0, None);
/// 0.0001 degrees.
const LATITUDE: Number = part("latitude", signed(3, 10_000.0, Some("lat")));
const LONGITUDE: Number = part("longitude", signed(3, 10_000.0, Some("lon")));

/// Reads a payload, in the order of its items.
///
/// # Errors
/// When it is too long, ends within an item, or holds a type that is none: then nothing of it is taken, for one wrong byte
/// shifts all that follow.
pub fn read(payload: &[u8]) -> Result<Vec<Item>, CayenneError> {
    if payload.len() > MAX_BYTES {
        return Err(CayenneError::Long(payload.len()));
    }
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&channel) = payload.get(at) {
        let Some(&kind) = payload.get(at + 1) else {
            return Err(CayenneError::Short { at: at + 1, what: "a type", needs: 1, left: 0 });
        };
        let Some((_, what, numbers)) = KINDS.iter().find(|(code, _, _)| *code == kind) else {
            return Err(CayenneError::Type { at: at + 1, kind });
        };
        at += 2;
        let needs = numbers.iter().map(|number| number.size).sum();
        let left = payload.len() - at;
        if left < needs {
            return Err(CayenneError::Short { at, what, needs, left });
        }
        for number in *numbers {
            let integer = number.integer(&payload[at..at + number.size]);
            let slash = if number.part.is_empty() { "" } else { "/" };
            items.push(Item {
                name: format!("{what}/{channel}{slash}{}", number.part),
                unit: number.unit,
                value: integer as f64 / number.over,
            });
            at += number.size;
        }
    }
    Ok(items)
}

impl Number {
    /// Big-endian, of at most four bytes.
    fn integer(&self, bytes: &[u8]) -> i64 {
        let magnitude = bytes.iter().fold(0_i64, |so_far, byte| so_far << 8 | i64::from(*byte));
        let negative = self.signed && bytes.first().is_some_and(|first| first & 0x80 != 0);
        if negative { magnitude - (1 << (8 * bytes.len())) } else { magnitude }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(hex: &str) -> Vec<(String, f64)> {
        let bytes = hex::decode(hex.replace(' ', "")).unwrap();
        read(&bytes).unwrap().into_iter().map(|item| (item.name, item.value)).collect()
    }

    /// The payloads of myDevices' documentation (two temperatures; temperature and accelerometer; GPS), and of the tests
    /// of ElectronicCats/CayenneLPP 1.3 (`test/aunit/main.cpp`).
    #[test]
    fn documented_payloads_read_as_documented() {
        for (hex, expected) in [
            ("03 67 01 10 05 67 00 FF", &[("temperatureSensor/3", 27.2), ("temperatureSensor/5", 25.5)][..]),
            (
                "01 67 FF D7 06 71 04 D2 FB 2E 00 00",
                &[
                    ("temperatureSensor/1", -4.1),
                    ("accelerometer/6/x", 1.234),
                    ("accelerometer/6/y", -1.234),
                    ("accelerometer/6/z", 0.0),
                ],
            ),
            (
                "01 88 06 76 5f f2 96 0a 00 03 e8",
                &[
                    ("gpsLocation/1/latitude", 42.3519),
                    ("gpsLocation/1/longitude", -87.9094),
                    ("gpsLocation/1/altitude", 10.0),
                ],
            ),
            ("03 67 01 10 02 68 6C", &[("temperatureSensor/3", 27.2), ("humiditySensor/2", 54.0)]),
            ("05 67 FF D1", &[("temperatureSensor/5", -4.7)]),
            ("01 80 FF FF", &[("power/1", 65_535.0)]),
            ("01 64 00 00 03 E6", &[("genericSensor/1", 998.0)]),
            ("03 74 57 B8", &[("voltage/3", 224.56)]),
            ("01 75 00 ED", &[("current/1", 0.237)]),
            ("01 76 33 BE 27 A0", &[("frequency/1", 868_100_000.0)]),
            ("05 79 FF EF", &[("altitude/5", -17.0)]),
            ("01 82 00 00 00 22", &[("distance/1", 0.034)]),
            ("01 83 00 79 5B 30", &[("energy/1", 7953.2)]),
            ("01 84 01 00", &[("direction/1", 256.0)]),
            ("05 8E 01", &[("switch/5", 1.0)]),
            // Each other type once, at the ends of its range.
            ("00 00 FF FF 01 00", &[("digitalInput/0", 255.0), ("digitalOutput/255", 0.0)]),
            ("01 02 80 00 02 03 7F FF", &[("analogInput/1", -327.68), ("analogOutput/2", 327.67)]),
            ("01 65 FF FF 02 66 01", &[("illuminanceSensor/1", 65_535.0), ("presenceSensor/2", 1.0)]),
            ("04 73 27 9D", &[("barometer/4", 1014.1)]),
            ("01 78 64 02 7D 01 90", &[("percentage/1", 100.0), ("concentration/2", 400.0)]),
            ("09 85 5D 80 EF 00", &[("unixTime/9", 1_568_730_880.0)]),
            ("01 86 00 64 FF 9C 00 00", &[("gyrometer/1/x", 1.0), ("gyrometer/1/y", -1.0), ("gyrometer/1/z", 0.0)]),
            ("01 87 FF 80 00", &[("colour/1/r", 255.0), ("colour/1/g", 128.0), ("colour/1/b", 0.0)]),
        ] {
            let expected: Vec<(String, f64)> =
                expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            assert_eq!(values(hex), expected, "{hex}");
        }
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_read_is_refused_as_a_whole_and_says_where() {
        for (bytes, said) in [
            (&[3, 103, 1, 16, 1][..], "byte 5: a type needs 1 bytes, 0 are left"),
            (&[3, 103, 1], "byte 2: temperatureSensor needs 2 bytes, 1 are left"),
            (&[3, 103, 1, 16, 1, 240, 9], "byte 5: 240 is no Cayenne data type"),
            (&[1, 99, 0, 0], "byte 1: 99 is no Cayenne data type"),
        ] {
            assert_eq!(read(bytes).unwrap_err().to_string(), said);
        }
        assert_eq!(read(&[0; MAX_BYTES + 1]), Err(CayenneError::Long(MAX_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn hostile_payloads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(items) = read(&bytes) {
                prop_assert!(items.iter().all(|item| item.value.is_finite()));
            }
        }
    }
}
