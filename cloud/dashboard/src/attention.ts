/** What somebody must do, most urgent first: each in one sentence, with its reason and the way to its evidence. */

import { ageText, durationText } from './age';
import { channelLabel } from './channel';
import type { Alert, Field, Gateway, Overview, Refusal, Station } from './client';
import { momentText } from './farm-time';
import { fieldReading, wetness, wetnessTone } from './field-state';
import { isGatewayLate } from './gateway-state';
import { agreementText, reasonText, standingRefusal, updateOf } from './model-state';
import { formatNumber, formatShare, formatValue, formatWithUnit, readableUnits } from './quantity';
import { readableTimes } from './readable-times';
import { pathOf } from './route';
import { sentence } from './sentence';
import { alertTone, byAlertUrgency, isLate } from './station-state';
import type { Tone } from './tone';

export interface AttentionItem {
  /** Stays the same while the same thing is meant. */
  readonly key: string;
  readonly tone: Tone;
  readonly title: string;
  readonly reason: string;
  readonly href: string;
  /** What the link leads to, for who does not see the sentence beside it. */
  readonly linkLabel: string;
}

export function attention(overview: Overview, now: number): AttentionItem[] {
  const lateGateways = overview.gateways.filter((g) => isGatewayLate(g, now, overview.speed));
  const alerts = overview.alerts.filter((a) => a.closed === null).toSorted(byAlertUrgency);
  const faults = alerts.filter((a) => alertTone(a.kind) === 'fault');
  const unusual = alerts.filter((a) => alertTone(a.kind) !== 'fault' && explainedBy(a, faults) === undefined);
  return [
    ...lateGateways.map((g) => gatewayItem(overview, g, now)),
    ...silentItems(overview, faults, now),
    ...faults.filter((a) => a.kind !== 'silent').map((a) => alertItem(overview, a, alerts)),
    ...fieldItems(overview, now),
    // While a gateway is away, so are its stations: that is one thing to do, not twenty-four.
    ...(lateGateways.length === 0 ? lateItems(overview, faults, now) : []),
    ...overview.gateways.flatMap((g) => refusalItems(overview, g, now)),
    ...unusual.map((a) => alertItem(overview, a, alerts)),
    ...overview.gateways.flatMap((g) => shadowItems(overview, g, now)),
  ];
}

function gatewayItem({ farm }: Overview, gateway: Gateway, now: number): AttentionItem {
  const seen = Date.parse(gateway.last_seen ?? '');
  return {
    key: `gateway ${gateway.id}`,
    tone: 'fault',
    title: `Gateway ${gateway.name} not heard since ${momentText(seen, now, farm.timezone)}`,
    reason: `It goes on measuring and keeps its readings; ${ageText(now - seen)} wait to be sent`,
    href: pathOf({ page: 'gateways', farm: farm.id }),
    linkLabel: `Look at gateway ${gateway.name}`,
  };
}

/** A refusal that nobody has answered for so long is left to the gateway's page, ms. */
const REFUSAL_SHOWN_MS = 7 * 86_400_000;

/** What a gateway refused: the registry itself, or a version that nothing has come after. */
function refusalItems({ farm }: Overview, gateway: Gateway, now: number): AttentionItem[] {
  const update = updateOf(gateway);
  if (update === null) return [];
  const item = (key: string, title: string, { reason, text }: Refusal): AttentionItem => ({
    key: `${key} ${gateway.id}`,
    tone: 'warning',
    title,
    reason: `${sentence(reasonText(reason))} ${sentence(readableTimes(text, now, farm.timezone))}`,
    href: pathOf({ page: 'gateways', farm: farm.id }),
    linkLabel: `Look at gateway ${gateway.name}, refusal`,
  });
  const registry = update.refusal === null ? [] : [item('registry', `Gateway ${gateway.name} gets no model updates`, update.refusal)];
  const models = update.models.flatMap((model) => {
    const standing = standingRefusal(model);
    if (standing === undefined || now - Date.parse(standing.at) > REFUSAL_SHOWN_MS) return [];
    const what = [model.name, standing.version].filter((part) => part !== null).join(' ');
    return [item(`refused ${model.name}`, `Gateway ${gateway.name} refused ${what}`, standing)];
  });
  return [...registry, ...models];
}

/** Versions in shadow: nobody has to do anything, but somebody may want to compare. */
function shadowItems({ farm }: Overview, gateway: Gateway, now: number): AttentionItem[] {
  return (updateOf(gateway)?.models ?? []).flatMap(({ name, candidate }) => {
    const shadow = candidate?.shadow ?? null;
    if (candidate?.phase !== 'shadow' || shadow === null) return [];
    const left = Date.parse(shadow.until) - now;
    return {
      key: `shadow ${gateway.id} ${name}`,
      tone: 'none' as const,
      title: `Model ${name} ${candidate.version} is in shadow on gateway ${gateway.name}`,
      reason: `${agreementText(shadow) ?? 'No window judged yet'}; ${left > 0 ? `ends in ${durationText(left)}` : 'ends now'}`,
      href: pathOf({ page: 'model', farm: farm.id, model: name, version: candidate.version }),
      linkLabel: `Compare ${name} ${candidate.version}`,
    };
  });
}

/** A model's alert tells no more than a fault's on the same channel; it becomes that one's reason. */
function explainedBy(alert: Alert, faults: readonly Alert[]): Alert | undefined {
  const main = alert.channel ?? alert.drivers[0]?.channel;
  return faults.find((f) => f.station === alert.station && (f.kind === 'silent' || f.channel === main));
}

function alertItem({ farm, fields }: Overview, alert: Alert, open: readonly Alert[]): AttentionItem {
  const evidence =
    alert.model !== null ? alert : (open.find((a) => a.kind === 'anomaly' && explainedBy(a, [alert]) === alert) ?? alert);
  return {
    key: alert.id,
    tone: alertTone(alert.kind),
    title: `${placeOf(alert.station, alert.field, fields)} ${alertSentence(alert)}`,
    reason: alertReason(evidence),
    href: alertPath(farm.id, alert),
    linkLabel: `Look at ${alert.station}, ${alert.channel === null ? alert.kind : `${channelLabel(alert.channel)} ${alert.kind}`}`,
  };
}

/** Where to see an alert: its station, at its time. */
export function alertPath(farm: string, alert: Alert): string {
  return pathOf({ page: 'station', farm, station: alert.station, at: alert.opened, span: 'week' });
}

/** The alert's message without the station's name before it and the score after it, which the page says in its own way. */
export function alertSentence(alert: Pick<Alert, 'station' | 'message'>): string {
  const message = readableUnits(alert.message).replace(/( \([\d.]+ times the threshold\))?\.?$/, '');
  const named = [`station ${alert.station}`, alert.station].find((name) => message.toLowerCase().startsWith(name));
  return named === undefined ? lowerFirst(message) : message.slice(named.length).replace(/^[\s:,·]+/, '');
}

/** "Soil moisture" inside a sentence; "EC" stays. */
function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

/** Why an alert was raised, in numbers. */
export function alertReason(alert: Pick<Alert, 'score' | 'threshold' | 'drivers' | 'channel' | 'model'>): string {
  const parts = [`${alert.model === null ? 'Score' : 'Anomaly score'} ${formatNumber(alert.score, 1)} (threshold ${formatNumber(alert.threshold, 1)})`];
  const [driver, ...others] = alert.drivers;
  if (driver && others.length > 0) {
    const name = driver.channel === alert.channel ? 'this channel' : channelLabel(driver.channel);
    parts.push(`driven ${formatShare(driver.share)} by ${name}`);
  }
  return readableUnits(parts.join(', ') + (alert.model === null ? '' : `. Model ${alert.model}`));
}

function placeOf(station: string, field: string | null, fields: readonly Field[]): string {
  const name = fields.find((f) => f.id === field)?.name;
  return name === undefined ? station : `${name} · ${station}`;
}

/** Silent stations of one field are one thing to do: somebody goes there once. */
function silentItems(overview: Overview, faults: readonly Alert[], now: number): AttentionItem[] {
  const silent = faults.filter((a) => a.kind === 'silent');
  return [...byField(silent)].map(([field, alerts]) => {
    const stations = alerts.map((a) => a.station).toSorted();
    const first = alerts.toSorted((a, b) => a.opened.localeCompare(b.opened))[0] as Alert;
    return silentItem(overview, 'silent', 'fault', field, stations, first.opened, now);
  });
}

/** Stations that are late although no alert says so yet. */
function lateItems(overview: Overview, faults: readonly Alert[], now: number): AttentionItem[] {
  const known = new Set(faults.filter((a) => a.kind === 'silent').map((a) => a.station));
  const late = overview.stations.filter((s) => !known.has(s.id) && isLate(s, now, overview.speed));
  return [...byField(late)].map(([field, stations]) => {
    const heard = stations.map((s) => s.last_heard ?? '').toSorted()[0] ?? '';
    return silentItem(overview, 'late', 'warning', field, stations.map((s) => s.id).toSorted(), heard, now);
  });
}

function byField<T extends { field: string | null }>(items: readonly T[]): Map<string | null, T[]> {
  const groups = new Map<string | null, T[]>();
  for (const item of items) groups.set(item.field, [...(groups.get(item.field) ?? []), item]);
  return groups;
}

/** Names that fit into a sentence; the rest is counted. */
const NAMES_SHOWN = 3;

function silentItem(
  overview: Overview,
  kind: 'silent' | 'late',
  tone: Tone,
  fieldId: string | null,
  ids: readonly string[],
  since: string,
  now: number,
): AttentionItem {
  const { farm, fields, stations } = overview;
  const field = fields.find((f) => f.id === fieldId);
  const names = ids.length > NAMES_SHOWN + 1 ? `${ids.slice(0, NAMES_SHOWN).join(', ')} and ${ids.length - NAMES_SHOWN} more` : ids.join(', ');
  const sinceText = momentText(Date.parse(since), now, farm.timezone);
  const id = ids[0] ?? '';
  return {
    key: `${kind} ${fieldId ?? ''}`,
    tone,
    title: `${field ? `${field.name} · ` : ''}${names} ${kind === 'silent' ? 'silent' : 'not heard'} since ${sinceText}`,
    reason: silentReason(stations.filter((s) => ids.includes(s.id))),
    href: pathOf({ page: 'station', farm: farm.id, station: id, at: since, span: 'week' }),
    linkLabel: `Look at ${id}, ${kind}`,
  };
}

function silentReason(stations: readonly Station[]): string {
  const lowest = (quantity: string): string | null => {
    const values = stations.flatMap((s) => s.latest.filter((l) => l.quantity === quantity).map((l) => l.value));
    return values.length === 0 ? null : formatWithUnit(quantity, Math.min(...values));
  };
  const battery = lowest('battery');
  const signal = lowest('rssi');
  const parts = [battery && `Last battery ${battery}`, signal && `signal ${signal}`].filter(Boolean);
  return parts.length === 0 ? 'Nothing is known of battery or signal' : parts.join(', ');
}

function fieldItems(overview: Overview, now: number): AttentionItem[] {
  const { farm, fields, stations, speed } = overview;
  return fields.flatMap((field) => {
    const own = stations.filter((s) => s.field === field.id);
    const { moisture, channel, of } = fieldReading(own, (s) => s.last_heard !== null && !isLate(s, now, speed));
    if (moisture === null || channel === null) return [];
    const state = wetness(moisture, field);
    if (wetnessTone(state) === 'ok') return [];
    const difference = formatValue('soil_moisture', Math.abs(moisture - field.refill_point));
    const relation = state === 'below refill' ? 'below' : 'above';
    return {
      key: `field ${field.id}`,
      tone: 'warning' as const,
      title: readableUnits(`${field.name} · ${channelLabel(channel)} is ${difference} m³/m³ ${relation} refill`),
      reason: `${formatWithUnit('soil_moisture', moisture)}, median of ${of} ${of === 1 ? 'station' : 'stations'}; refill ${formatValue('soil_moisture', field.refill_point)}, field capacity ${formatValue('soil_moisture', field.field_capacity)}`,
      href: pathOf({ page: 'stations', farm: farm.id, field: field.id }),
      linkLabel: `Look at the stations of ${field.name}`,
    };
  });
}

/** When an alert was, in words: "since Tue 00:22, for 5 h 40 min" or "Tue 00:22 to 06:10". */
export function alertTimes(alert: Pick<Alert, 'opened' | 'closed'>, now: number, timeZone: string): string {
  const opened = Date.parse(alert.opened);
  if (alert.closed === null) return `since ${momentText(opened, now, timeZone)}, for ${durationText(now - opened)}`;
  const closed = Date.parse(alert.closed);
  return `${momentText(opened, now, timeZone)} to ${momentText(closed, now, timeZone)}, ${durationText(closed - opened)}`;
}
