//! One field: what its stations say, and what follows.

use std::collections::BTreeMap;

use proto::decision::{Cause, Decision, Inputs, Run};
use proto::{Channel, Quantity, StationId, Timestamp, Window};

use super::balance;
use super::config::{FieldConfig, RootZone};
use super::reason::{Because, sentence};
use super::state::{self, Probe, State, UnreadableState};
use super::{Order, Standing};

/// How long after a decision the next that does not irrigate is told, if its cause is another one: what wavers does not
/// flood the lane.
const TELL_EVERY_MS: i64 = 3_600_000;
const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: i64 = 86_400_000;

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    config: FieldConfig,
    zone: RootZone,
    state: State,
    /// Whether the state changed since it was told.
    changed: bool,
    /// How it was at the last boundary.
    now: Option<Decision>,
}

fn hours_ms(hours: f64) -> i64 {
    (hours * HOUR_MS).round() as i64
}

impl Field {
    pub fn new(config: &FieldConfig) -> Option<Self> {
        let zone = config.root_zone()?;
        Some(Self { config: config.clone(), zone, state: State::default(), changed: false, now: None })
    }

    pub fn config(&self) -> &FieldConfig {
        &self.config
    }

    /// Goes on as it was. Of stations that are not the field's any more nothing is kept.
    pub fn remember(&mut self, state: &[u8]) -> Result<(), UnreadableState> {
        let mut state = State::decode(state)?;
        state.probes.retain(|(station, _), _| self.config.stations.contains(station));
        state.gauges.retain(|station, _| self.config.stations.contains(station));
        self.state = state;
        Ok(())
    }

    pub fn news(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| self.state.encode())
    }

    /// Takes in a window of one of its stations: the newest of a probe counts, and all the rain of the last hours.
    pub fn take(&mut self, window: &Window) {
        let end = window.end();
        for aggregate in &window.aggregates {
            let channel = aggregate.channel;
            match channel.quantity {
                Quantity::SoilMoisture if channel.level_cm.is_some() => {
                    let probe = Probe { end, content: aggregate.accepted.map(|stats| stats.mean) };
                    let key = (window.station.clone(), channel);
                    if self.state.probes.get(&key).is_none_or(|known| known.end <= end) {
                        self.state.probes.insert(key, probe);
                        self.changed = true;
                    }
                }
                Quantity::Rain => {
                    let Some(stats) = aggregate.accepted else { continue };
                    let gauge = self.state.gauges.entry(window.station.clone()).or_default();
                    gauge.heard = gauge.heard.max(end);
                    // A reading is what fell since the one before.
                    let rain_mm = stats.mean * f64::from(stats.count);
                    if rain_mm > 0.0 {
                        gauge.rain_mm.insert(end, rain_mm);
                    } else {
                        gauge.rain_mm.remove(&end);
                    }
                    let from = gauge.heard.plus_millis(-hours_ms(self.config.rain_h));
                    gauge.rain_mm.retain(|end, _| *end > from);
                    self.changed = true;
                }
                _ => {}
            }
        }
    }

    /// Decides for the boundary `at`, which was complete at `now`; gives the decision if it is one to tell. A boundary is
    /// decided on once, and not at all when it is long past.
    pub fn decide(
        &mut self,
        at: Timestamp,
        now: Timestamp,
        distrusted: &impl Fn(&StationId, Channel) -> bool,
    ) -> Option<Decision> {
        if self.state.judged.is_some_and(|judged| at <= judged) {
            return None;
        }
        self.state.judged = Some(at);
        self.changed = true;
        if now.millis_since(at) > hours_ms(self.config.fresh_h) {
            return None;
        }
        let (inputs, surplus_mm) = self.inputs(at, distrusted);
        let because = self.judge(&inputs, surplus_mm, now);
        let (cause, run) = match because {
            Because::Due { run, .. } => (Cause::Due, Some(run)),
            Because::Moist => (Cause::Moist, None),
            Because::Rain { .. } => (Cause::Rain, None),
            Because::Settling { .. } => (Cause::Settling, None),
            Because::Hours { .. } => (Cause::Hours, None),
            Because::Spent { .. } => (Cause::Spent, None),
            Because::Small { .. } => (Cause::Small, None),
            Because::Untrusted { .. } => (Cause::Untrusted, None),
            Because::Unconfirmed { .. } => (Cause::Unconfirmed, None),
        };
        let commanded = run.is_some() && self.config.auto;
        let decision = Decision {
            id: Decision::id_of(&self.config.name, at),
            field: self.config.name.clone(),
            at,
            cause,
            run,
            reason: sentence(&because, &inputs, surplus_mm),
            inputs,
            stations: if commanded { self.config.valves.clone() } else { Vec::new() },
            confirmed: Vec::new(),
        };
        if let Some(run) = run {
            self.begin(&decision, run, now);
        }
        let told = self.is_to_tell(&decision).then(|| decision.clone());
        if told.is_some() {
            self.state.told.clone_from(&told);
        }
        self.now = Some(decision);
        told
    }

    /// Remembers an irrigation.
    fn begin(&mut self, decision: &Decision, run: Run, now: Timestamp) {
        let day = self.day(now);
        if day != self.state.day {
            (self.state.day, self.state.day_minutes) = (day, 0);
        }
        self.state.day_minutes += run.minutes;
        self.state.run = Some(state::Run {
            decision: decision.clone(),
            water: run,
            at: now,
            expires: now.plus_millis(i64::from(self.config.irrigation.expire_minutes) * 60_000),
        });
    }

    /// Irrigations are told, and what else there is once a day and when its cause is another one.
    fn is_to_tell(&self, decision: &Decision) -> bool {
        self.state.told.as_ref().is_none_or(|told| {
            decision.run.is_some()
                || self.day(decision.at) != self.day(told.at)
                || (decision.cause != told.cause && decision.at.millis_since(told.at) >= TELL_EVERY_MS)
        })
    }

    /// What the stations say; and what layers hold above field capacity, mm.
    fn inputs(&self, at: Timestamp, distrusted: &impl Fn(&StationId, Channel) -> bool) -> (Inputs, f64) {
        let from = at.plus_millis(-hours_ms(self.config.fresh_h));
        let (mut by_depth, mut probes, mut untrusted) = (BTreeMap::<u16, Vec<f64>>::new(), 0, 0);
        for ((station, channel), probe) in &self.state.probes {
            let level_cm = channel.level_cm.unwrap_or_default();
            if f64::from(level_cm) / 100.0 > self.zone.root_depth_m {
                continue;
            }
            match probe.content.filter(|_| probe.end > from && !distrusted(station, *channel)) {
                Some(content) => {
                    by_depth.entry(level_cm).or_default().push(content);
                    probes += 1;
                }
                None => untrusted += 1,
            }
        }
        let depths_m: Vec<f64> = by_depth.keys().map(|level_cm| f64::from(*level_cm) / 100.0).collect();
        let layers_m = balance::layers_m(&depths_m, self.zone.root_depth_m);
        let contents = by_depth.into_values().map(|all| balance::median(all).unwrap_or_default());
        let RootZone { field_capacity, total_mm, readily_mm, .. } = self.zone;
        let (missing_mm, surplus_mm) = balance::missing_and_surplus_mm(field_capacity, contents.zip(layers_m));
        // FAO-56 eq. 86: 0 to TAW.
        let depletion_mm = (probes >= self.config.min_probes).then_some(missing_mm.min(total_mm));
        let rain_from = at.plus_millis(-hours_ms(self.config.rain_h));
        let rain = Channel::of(Quantity::Rain);
        let gauges =
            self.state.gauges.iter().filter(|(station, gauge)| gauge.heard > from && !distrusted(station, rain));
        let sums = gauges
            .map(|(_, gauge)| gauge.rain_mm.range(..=at).filter(|(end, _)| **end > rain_from).map(|(_, mm)| mm).sum());
        let rain_mm = balance::median(sums.collect());
        (Inputs { depletion_mm, total_mm, readily_mm, rain_mm, probes, untrusted }, surplus_mm)
    }

    /// What follows from it. Water above field capacity in one layer does not make up for what another misses, but need not be given again.
    fn judge(&self, inputs: &Inputs, surplus_mm: f64, now: Timestamp) -> Because {
        let (config, irrigation) = (&self.config, &self.config.irrigation);
        let Some(depletion_mm) = inputs.depletion_mm else {
            return Because::Untrusted { least: config.min_probes, fresh_h: config.fresh_h };
        };
        if depletion_mm < inputs.readily_mm {
            return Because::Moist;
        }
        if let Some(run) = &self.state.run {
            let Run { mm, minutes } = run.water;
            let until = run.at.plus_millis(i64::from(minutes) * 60_000 + hours_ms(config.interval_h));
            if now < until {
                let unconfirmed = now >= run.expires && run.valves().any(|(_, confirmed)| !confirmed);
                return if unconfirmed {
                    Because::Unconfirmed { minutes, at: run.at }
                } else {
                    Because::Settling { mm, at: run.at, until }
                };
            }
        }
        if inputs.rain_mm.is_some_and(|mm| mm >= config.rain_mm) {
            return Because::Rain { hours: config.rain_h };
        }
        let open_minutes = match config.hours {
            None => f64::INFINITY,
            Some([from, to]) => {
                let left = self.minutes_left(from, to, now);
                if left < f64::from(irrigation.min_minutes) {
                    return Because::Hours { from, to };
                }
                left
            }
        };
        let used = if self.day(now) == self.state.day { self.state.day_minutes } else { 0 };
        let left = irrigation.max_minutes.saturating_sub(used);
        if left < irrigation.min_minutes {
            return Because::Spent { minutes: used, most: irrigation.max_minutes };
        }
        let rate_mm_per_min = irrigation.application_mm_per_h / 60.0;
        let to_fill_mm = (depletion_mm - surplus_mm).max(0.0);
        let minutes_for = |mm: f64| mm.max(0.0) / config.efficiency() / rate_mm_per_min;
        let mut wanted = minutes_for(to_fill_mm - config.leave_mm);
        let step = irrigation.step_minutes.max(1);
        // Rather than to let the crop suffer, the shortest run may take the room for rain, as long as the dry layers can hold it.
        let shortest = f64::from(irrigation.min_minutes.div_ceil(step) * step);
        if wanted < shortest && minutes_for(depletion_mm) >= shortest {
            wanted = shortest;
        }
        let whole = wanted.min(open_minutes).min(f64::from(left)) as u32 / step * step;
        if whole < irrigation.min_minutes {
            return Because::Small { minutes: wanted, least: irrigation.min_minutes };
        }
        let mm = f64::from(whole) * rate_mm_per_min;
        let net_mm = mm * config.efficiency();
        let stress = balance::stress_coefficient(to_fill_mm, inputs.total_mm, self.zone.depletion_fraction);
        Because::Due { run: Run { mm, minutes: whole }, net_mm, leave_mm: (to_fill_mm - net_mm).max(0.0), stress }
    }

    /// Minutes until it is `to` o'clock, when it is past `from`; none otherwise.
    fn minutes_left(&self, from: f64, to: f64, now: Timestamp) -> f64 {
        let hour = self.local_ms(now).rem_euclid(DAY_MS) as f64 / HOUR_MS;
        let length = (to - from).rem_euclid(24.0);
        // From an hour to the same is all the day.
        if length == 0.0 {
            return f64::INFINITY;
        }
        let since = (hour - from).rem_euclid(24.0);
        ((length - since) * 60.0).max(0.0)
    }

    fn local_ms(&self, time: Timestamp) -> i64 {
        time.as_millis() + hours_ms(self.config.utc_offset_h)
    }

    fn day(&self, time: Timestamp) -> i64 {
        self.local_ms(time).div_euclid(DAY_MS)
    }

    /// A valve's station has carried out all up to this number. Gives the decision to tell again, when that is news.
    pub fn confirm(&mut self, station: &StationId, id: u64) -> Option<Decision> {
        let run = self.state.run.as_mut().filter(|run| run.id() <= id)?;
        let news = run.valves().any(|(valve, confirmed)| valve == station && !confirmed);
        news.then(|| {
            run.decision.confirmed.push(station.clone());
            self.changed = true;
            run.decision.clone()
        })
    }

    pub fn orders(&self, now: Timestamp) -> impl Iterator<Item = Order> {
        let run = self.state.run.as_ref().filter(|run| self.config.auto && now < run.expires);
        run.into_iter().flat_map(|run| {
            let waiting = run.valves().filter(|(_, confirmed)| !confirmed);
            waiting.map(|(station, _)| Order { station: station.clone(), id: run.id(), minutes: run.water.minutes })
        })
    }

    pub fn standing(&self) -> Standing {
        let valves = self.state.run.iter().flat_map(state::Run::valves);
        let valves = valves.map(|(station, confirmed)| (station.clone(), confirmed));
        Standing {
            field: self.config.name.clone(),
            auto: self.config.auto,
            told: self.state.told.clone(),
            now: self.now.clone(),
            valves: valves.collect(),
        }
    }
}
