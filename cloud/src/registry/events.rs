//! What gateways made of their models, kept for good. A gateway reports how it stands, and only its last report is kept;
//! here is what changed from one to the next.

use proto::assignment::MAX_MODELS;
use proto::update::{MAX_REFUSALS, ModelStatus, NodesPhase, Phase, Refusal};
use proto::{FarmId, GatewayId, UpdateStatus};
use sqlx::PgConnection;

use crate::api::types::{ModelEvent, ModelEventKind, ModelEventPage};
use crate::database::{SqlTime, statements};
use crate::paging::Page;

statements! {
    /// The columns of model_event.
    ADD = "INSERT INTO model_event (farm_id, event_id, gateway_id, model, kind, at, version, reason, message)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (farm_id, event_id) DO NOTHING";

    /// $1 farm, $2 and $3 time and id of the last event of the page before, or null for the first page, $4 how many at most.
    PAGE = "SELECT event_id, gateway_id, model, kind, at, version, reason, message FROM model_event
        WHERE farm_id = $1 AND ($2::timestamptz IS NULL OR (at, event_id) < ($2, $3))
        ORDER BY at DESC, event_id DESC LIMIT $4";
}

/// The longest text of an event, in characters.
const MOST_TEXT: usize = 1000;

/// The longest name, version and reason, in characters; longer ones are no gateway's of ours.
const MOST_NAME: usize = 64;

/// What happened between two reports of a gateway, the second of which is `now`.
#[must_use]
pub fn between(gateway: &GatewayId, before: Option<&UpdateStatus>, now: &UpdateStatus) -> Vec<ModelEvent> {
    let gateway = gateway.as_str();
    let mut events = Vec::new();
    if let Some(refusal) = &now.refusal {
        // Every try is a refusal of its own; only another reason is news.
        let known = before.and_then(|before| before.refusal.as_ref()).is_some_and(|old| old.reason == refusal.reason);
        if !known {
            events.push(refused(gateway, None, ModelEventKind::Refused, refusal));
        }
    }
    let stopped = |status: &UpdateStatus| {
        let nodes = status.nodes.clone().filter(|nodes| nodes.phase == NodesPhase::Stopped)?;
        Some((nodes.name, nodes.version, nodes.serial, nodes.text))
    };
    if let Some((name, version, serial, text)) = stopped(now)
        && before.and_then(stopped).is_none_or(|(.., known, _)| known != serial)
    {
        let at = now.nodes.iter().flat_map(|nodes| &nodes.stations).map(|station| station.heard).max();
        events.push(ModelEvent {
            gateway: gateway.to_owned(),
            model: Some(cut(&name, MOST_NAME)),
            at: at.unwrap_or_default(),
            kind: ModelEventKind::Refused,
            version: Some(version.to_string()),
            reason: Some(NodesPhase::Stopped.name().to_owned()),
            text: cut(&text, MOST_TEXT),
        });
    }
    for model in now.models.iter().take(MAX_MODELS) {
        let old = before.and_then(|before| before.models.iter().find(|old| old.name == model.name));
        of_model(gateway, old, model, &mut events);
    }
    events
}

fn of_model(gateway: &str, before: Option<&ModelStatus>, now: &ModelStatus, events: &mut Vec<ModelEvent>) {
    let event = |kind, at, version: &str, text: &str| ModelEvent {
        gateway: gateway.to_owned(),
        model: Some(cut(&now.name, MOST_NAME)),
        at,
        kind,
        version: Some(cut(version, MOST_NAME)),
        reason: None,
        text: cut(text, MOST_TEXT),
    };
    for refusal in now.refusals.iter().take(MAX_REFUSALS).rev() {
        if before.is_some_and(|before| before.refusals.contains(refusal)) {
            continue;
        }
        let was_active = before.is_some_and(|before| refusal.version.as_ref() == Some(&before.active.version));
        let kind = if was_active { ModelEventKind::RolledBack } else { ModelEventKind::Refused };
        events.push(refused(gateway, Some(&now.name), kind, refusal));
    }
    if let Some(candidate) = now.candidate.as_ref().filter(|candidate| candidate.phase == Phase::Shadow) {
        let old = before.and_then(|before| before.candidate.as_ref());
        let known = old.is_some_and(|old| {
            (old.phase, &old.digest, old.since) == (Phase::Shadow, &candidate.digest, candidate.since)
        });
        if !known {
            let text = match &candidate.shadow {
                Some(shadow) => format!("runs beside {} until {}", now.active.version, shadow.until),
                None => format!("runs beside {}", now.active.version),
            };
            events.push(event(ModelEventKind::Shadow, candidate.since, &candidate.version, &text));
        }
    }
    let active = &now.active;
    let known =
        before.is_some_and(|before| (&before.active.digest, before.active.since) == (&active.digest, active.since));
    if !known {
        events.push(event(ModelEventKind::Activated, active.since, &active.version, &active.why));
    }
}

fn refused(gateway: &str, model: Option<&str>, kind: ModelEventKind, refusal: &Refusal) -> ModelEvent {
    ModelEvent {
        gateway: gateway.to_owned(),
        model: model.map(|name| cut(name, MOST_NAME)),
        at: refusal.at,
        kind,
        version: refusal.version.as_deref().map(|version| cut(version, MOST_NAME)),
        reason: Some(refusal.reason.name().to_owned()),
        text: cut(&refusal.text, MOST_TEXT),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// An event's id: what it says, so that it is the same when it is said again.
fn id(event: &ModelEvent) -> String {
    let or_none = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
    let (model, version, reason) = (or_none(&event.model), or_none(&event.version), or_none(&event.reason));
    format!("{}/{model}/{}/{version}/{reason}/{}", event.gateway, event.kind.name(), event.at.as_millis())
}

/// Stores events that are not stored yet.
pub(crate) async fn store(
    connection: &mut PgConnection,
    farm: &FarmId,
    events: &[ModelEvent],
) -> Result<(), sqlx::Error> {
    for event in events {
        sqlx::query(ADD)
            .bind(farm.as_str())
            .bind(id(event))
            .bind(&event.gateway)
            .bind(&event.model)
            .bind(event.kind.name())
            .bind(SqlTime(event.at))
            .bind(&event.version)
            .bind(&event.reason)
            .bind(&event.text)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    event_id: String,
    gateway_id: String,
    model: Option<String>,
    kind: String,
    at: SqlTime,
    version: Option<String>,
    reason: Option<String>,
    message: String,
}

/// A page of a farm's events, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn page(connection: &mut PgConnection, farm: &FarmId, page: &Page) -> Result<ModelEventPage, sqlx::Error> {
    let mut rows: Vec<Row> = sqlx::query_as(PAGE)
        .bind(farm.as_str())
        .bind(page.at())
        .bind(page.id())
        .bind(page.rows())
        .fetch_all(connection)
        .await?;
    let next = page.cut(&mut rows, |row| (row.at, &row.event_id));
    let items = rows.into_iter().map(ModelEvent::try_from).collect::<Result<_, _>>()?;
    Ok(ModelEventPage { items, next })
}

impl TryFrom<Row> for ModelEvent {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let kind = ModelEventKind::ALL.into_iter().find(|kind| kind.name() == row.kind);
        let kind = kind.ok_or_else(|| sqlx::Error::Decode(format!("unknown kind of event {:?}", row.kind).into()))?;
        let (gateway, at) = (row.gateway_id, row.at.0);
        Ok(Self { gateway, model: row.model, at, kind, version: row.version, reason: row.reason, text: row.message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Timestamp;
    use proto::update::{ActiveVersion, Candidate, Reason};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_433_764_800 + seconds)
    }

    fn runs(version: &str, since: i64) -> UpdateStatus {
        let active = ActiveVersion {
            version: version.to_owned(),
            digest: format!("digest of {version}"),
            since: at(since),
            why: format!("why {version}"),
        };
        let model =
            ModelStatus { name: "soil".to_owned(), active, previous: None, candidate: None, refusals: Vec::new() };
        UpdateStatus { models: vec![model], ..UpdateStatus::default() }
    }

    fn refusal(version: Option<&str>, reason: Reason, seconds: i64) -> Refusal {
        let version = version.map(str::to_owned);
        Refusal { version, digest: None, reason, text: "expected this, got that".to_owned(), at: at(seconds) }
    }

    fn said(before: Option<&UpdateStatus>, now: &UpdateStatus) -> Vec<String> {
        let events = between(&"g1".parse().unwrap(), before, now);
        let words = |event: &ModelEvent| {
            let version = event.version.as_deref().unwrap_or("-");
            let reason = event.reason.as_deref().unwrap_or("-");
            format!("{} {version} {reason}", event.kind.name())
        };
        events.iter().map(words).collect()
    }

    #[test]
    fn what_was_said_before_is_no_news() {
        let first = runs("1.0.0", 0);
        assert_eq!(said(None, &first), ["activated 1.0.0 -"]);
        assert!(said(Some(&first), &first).is_empty());
        assert_eq!(said(Some(&first), &runs("1.0.0", 60)), ["activated 1.0.0 -"]);
    }

    #[test]
    fn a_version_goes_from_shadow_to_active_and_back() {
        let first = runs("1.0.0", 0);
        let mut shadow = first.clone();
        shadow.models[0].candidate = Some(Candidate {
            version: "1.1.0".to_owned(),
            digest: "digest of 1.1.0".to_owned(),
            phase: Phase::Shadow,
            since: at(10),
            fetched: 7,
            size: 7,
            self_test: None,
            shadow: None,
        });
        assert_eq!(said(Some(&first), &shadow), ["shadow 1.1.0 -"]);
        assert!(said(Some(&shadow), &shadow).is_empty());
        let second = runs("1.1.0", 20);
        assert_eq!(said(Some(&shadow), &second), ["activated 1.1.0 -"]);
        let mut back = runs("1.0.0", 30);
        back.models[0].refusals.push(refusal(Some("1.1.0"), Reason::NotANumber, 30));
        assert_eq!(said(Some(&second), &back), ["rolled_back 1.1.0 not_a_number", "activated 1.0.0 -"]);
        assert!(said(Some(&back), &back).is_empty());
    }

    #[test]
    fn refusals_are_told_once() {
        let first = runs("1.0.0", 0);
        let mut refused = first.clone();
        refused.models[0].refusals.push(refusal(Some("1.1.0"), Reason::Golden, 5));
        assert_eq!(said(Some(&first), &refused), ["refused 1.1.0 golden"]);
        let mut again = refused.clone();
        again.models[0].refusals.insert(0, refusal(Some("1.1.0"), Reason::Golden, 9));
        assert_eq!(said(Some(&refused), &again), ["refused 1.1.0 golden"]);

        let mut expired = again.clone();
        expired.refusal = Some(refusal(None, Reason::Expired, 60));
        assert_eq!(said(Some(&again), &expired), ["refused - expired"]);
        let mut still = expired.clone();
        still.refusal = Some(refusal(None, Reason::Expired, 120));
        assert!(said(Some(&expired), &still).is_empty(), "the same at the next try is no news");
    }
}
