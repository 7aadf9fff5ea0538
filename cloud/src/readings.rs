//! Raw readings, as they are read.

use std::fmt;
use std::str::FromStr;

use proto::{Channel, FarmId, StationId, Timestamp};
use sqlx::PgConnection;

use crate::api::types::ReadingPage;
use crate::database::{SqlTime, statements};

statements! {
    /// The order is that of the primary key. $1 farm, $2 station, $3 channel, $4 from, $5 to, $6 and $7 time and value of the
    /// last reading of the page before, or null for the first page, $8 how many at most.
    READINGS = "SELECT time, value FROM reading
        WHERE farm_id = $1 AND station_id = $2 AND channel = $3 AND time >= $4 AND time < $5
            AND ($6::timestamptz IS NULL OR (time, value) > ($6, $7))
        ORDER BY time, value LIMIT $8";
}

/// Where a page of readings ended. Clients take it as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cursor {
    time: Timestamp,
    value: f64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{:016x}", self.time.as_millis(), self.value.to_bits())
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not what a page gave as next";
        let (time, bits) = value.split_once('~').ok_or(WRONG)?;
        let value = f64::from_bits(u64::from_str_radix(bits, 16).map_err(|_| WRONG)?);
        if !value.is_finite() {
            return Err(WRONG);
        }
        Ok(Self { time: Timestamp::from_millis(time.parse().map_err(|_| WRONG)?), value })
    }
}

/// What to read.
pub struct Selection<'a> {
    /// The farm.
    pub farm: &'a FarmId,
    /// The station.
    pub station: &'a StationId,
    /// The channel.
    pub channel: Channel,
    /// Readings at or after this time.
    pub from: Timestamp,
    /// Readings before this time.
    pub to: Timestamp,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: u32,
}

/// A page of readings.
///
/// # Errors
/// When the database does not answer.
pub async fn page(connection: &mut PgConnection, selection: &Selection<'_>) -> Result<ReadingPage, sqlx::Error> {
    let mut rows: Vec<(SqlTime, f64)> = sqlx::query_as(READINGS)
        .bind(selection.farm.as_str())
        .bind(selection.station.as_str())
        .bind(selection.channel.to_string())
        .bind(SqlTime(selection.from))
        .bind(SqlTime(selection.to))
        .bind(selection.after.map(|after| SqlTime(after.time)))
        .bind(selection.after.map(|after| after.value))
        .bind(i64::from(selection.limit) + 1)
        .fetch_all(connection)
        .await?;
    let more = rows.len() > selection.limit as usize;
    rows.truncate(selection.limit as usize);
    let next = rows.last().filter(|_| more).map(|(time, value)| Cursor { time: time.0, value: *value }.to_string());
    Ok(ReadingPage {
        channel: selection.channel,
        unit: selection.channel.quantity.unit().to_owned(),
        time_ms: rows.iter().map(|(time, _)| time.0.as_millis()).collect(),
        value: rows.iter().map(|(_, value)| *value).collect(),
        next,
    })
}
