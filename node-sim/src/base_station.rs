//! The base station on the field: it gathers what the stations around it send, sleeps, and hands it over TV white space to the farmhouse.
//!
//! As FarmBeats' (Vasisht et al. 2017): two solar panels of 60 W, four lead-acid batteries of 12 V and 44 Ah, a radio for TV white
//! space, Wi-Fi for the sensors and a small computer, switched on and off as [`crate::energy::plan`] decides. What they take is not in
//! the paper: it is what such parts take by their data sheets.

use crate::energy::course::Policy;
use crate::energy::plan::Cycle;

/// On: some 16 W of the radio, 5 W of the Wi-Fi and 4 W of the computer; off: the switch and its clock. It is on for five minutes at least: two
/// for starting and association, and three to take over and hand on.
pub const CYCLE: Cycle = Cycle { on_w: 25.0, off_w: 0.3, on_s: 300.0, most_gap_s: 6.0 * 3600.0 };

/// A third of the batteries is kept back for when the forecast is wrong: lead acid that is emptied does not last.
pub const PLANNED: Policy = Policy::Planned { reserve: 0.35, least_gap_s: CYCLE.on_s };
