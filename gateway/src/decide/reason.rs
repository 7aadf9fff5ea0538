//! The one sentence of a decision.

use proto::Timestamp;
use proto::decision::{Inputs, Run};

/// What there is to say, by cause.
#[derive(Debug, Clone, Copy)]
pub(super) enum Because {
    /// `stress`: the share of its transpiration that is left to the crop.
    Due {
        run: Run,
        net_mm: f64,
        leave_mm: f64,
        stress: f64,
    },
    Moist,
    Rain {
        hours: f64,
    },
    Settling {
        mm: f64,
        at: Timestamp,
        until: Timestamp,
    },
    Hours {
        from: f64,
        to: f64,
    },
    Spent {
        minutes: u32,
        most: u32,
    },
    Small {
        minutes: f64,
        least: u32,
    },
    Untrusted {
        least: u32,
        fresh_h: f64,
    },
    Unconfirmed {
        minutes: u32,
        at: Timestamp,
    },
}

/// Says it. `surplus_mm` is what is above field capacity in the root zone.
pub(super) fn sentence(because: &Because, inputs: &Inputs, surplus_mm: f64) -> String {
    let mut missing = format!("{:.0} mm are missing in the root zone", inputs.depletion_mm.unwrap_or_default());
    if surplus_mm >= 0.5 {
        missing += &format!(" and {surplus_mm:.0} mm elsewhere in it are above field capacity");
    }
    let (total, readily) = (inputs.total_mm, inputs.readily_mm);
    let of = format!("the crop takes {readily:.0} of {total:.0} mm without stress");
    match *because {
        Because::Due { run, net_mm, leave_mm, stress } => {
            let stressed =
                if stress < 0.995 { format!(" and now transpires at {:.0} %", 100.0 * stress) } else { String::new() };
            format!(
                "{missing}, and {of}{stressed}: {:.1} mm in {} min give it {net_mm:.1} mm, which leaves {leave_mm:.0} mm for rain",
                run.mm, run.minutes
            )
        }
        Because::Moist => format!("{missing}, and {of}"),
        Because::Rain { hours } => format!(
            "{missing}, but {:.1} mm of rain in the last {hours:.0} h are still going down",
            inputs.rain_mm.unwrap_or_default()
        ),
        Because::Settling { mm, at, until } => {
            format!("{missing}, but the {mm:.1} mm decided at {at} have until {until} to go down")
        }
        Because::Hours { from, to } => format!("{missing}, but it may run only from {} to {}", clock(from), clock(to)),
        Because::Spent { minutes, most } => format!("{missing}, but {minutes} of the day's {most} min are used up"),
        Because::Small { minutes, least } => {
            format!("{missing}, which would take {minutes:.0} min, and the shortest run is {least} min")
        }
        Because::Untrusted { least, fresh_h } => {
            let Inputs { probes, untrusted, .. } = *inputs;
            format!(
                "{probes} soil moisture probes can be trusted and {least} are needed; {untrusted} have an open alert, rejected \
                 readings, or none of the last {fresh_h:.0} h"
            )
        }
        Because::Unconfirmed { minutes, at } => {
            format!("{missing}, but not every valve has confirmed the {minutes} min decided at {at}: look at it")
        }
    }
}

/// An hour of the day as a clock shows it.
fn clock(hour: f64) -> String {
    let minutes = (hour * 60.0).round() as i64;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
