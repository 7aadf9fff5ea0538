/** How far a version is on a gateway: waiting, on its way, in shadow, active or refused. */

import { durationText } from './age';
import type { Assignment, Candidate, FarmModels, Gateway, ModelEvent, ModelStatus, ModelVersion, Phase, Reason, Refusal, SelfTest, ShadowReport, UpdateStatus } from './client';
import { momentText } from './farm-time';
import { groupBy } from './group';
import { formatBytes, formatNumber } from './quantity';
import type { Tone } from './tone';

/** The steps from the registry to the farm's alerts, each with the word for having come so far. */
export const STEPS: readonly { readonly phase: Phase | 'active'; readonly label: string }[] = [
  { phase: 'fetching', label: 'fetched' },
  { phase: 'verified', label: 'verified' },
  { phase: 'self_tested', label: 'tested' },
  { phase: 'shadow', label: 'shadow' },
  { phase: 'active', label: 'active' },
];

const PHASE_WORD: Readonly<Record<Phase, string>> = {
  fetching: 'fetching',
  verified: 'verified',
  self_tested: 'self-tested',
  shadow: 'in shadow',
};

export function phaseWord(phase: Phase): string {
  return PHASE_WORD[phase];
}

/** What is known of a candidate's phase, beside the phase's word. */
export function phaseText(candidate: Candidate, now: number, timeZone: string): string {
  switch (candidate.phase) {
    case 'fetching':
      return fetchedText(candidate);
    case 'verified':
      return `${formatBytes(candidate.size)}, as the registry signed it; its self-test comes next`;
    case 'self_tested':
      return candidate.self_test === null ? 'it answers its golden samples' : selfTestText(candidate.self_test);
    case 'shadow':
      return candidate.shadow === null ? 'beside the active version' : untilText(candidate.shadow, now, timeZone);
  }
}

/** How far a candidate is within its phase, 0 to 1: bytes while it is fetched, time while it is in shadow. */
export function phaseShare({ phase, fetched, size, since, shadow }: Candidate, now: number): number {
  const within = (part: number, whole: number): number => (whole > 0 ? Math.min(1, Math.max(0, part / whole)) : 0);
  if (phase === 'fetching') return within(fetched, size);
  if (phase !== 'shadow') return 1;
  return shadow === null ? 0 : within(now - Date.parse(since), Date.parse(shadow.until) - Date.parse(since));
}

/** "1.2 MB of 3.4 MB, 35 %"; nothing to divide by before its size is known. */
export function fetchedText({ fetched, size }: Pick<Candidate, 'fetched' | 'size'>): string {
  if (size === 0) return 'its size is not known yet';
  return `${formatBytes(fetched)} of ${formatBytes(size)}, ${Math.floor((Math.min(fetched, size) / size) * 100)} %`;
}

/** What a version took in its self-test: "0.4 ms a sample, 12.1 MB of memory". */
export function selfTestText({ latency_us, memory_bytes }: SelfTest): string {
  return `${latencyText(latency_us)} a sample, ${formatBytes(memory_bytes)} of memory`;
}

/** Microseconds, in milliseconds from a tenth of one on. */
export function latencyText(us: number): string {
  if (us < 100) return `${formatNumber(us)} µs`;
  return `${formatNumber(us / 1000, us < 10_000 ? 1 : 0)} ms`;
}

function untilText({ until }: ShadowReport, now: number, timeZone: string): string {
  const end = Date.parse(until);
  const left = end - now;
  return left <= 0 ? 'its time is over; it is being judged' : `until ${momentText(end, now, timeZone)}, ${durationText(left)} left`;
}

/** How a version in shadow compares: "Agrees on 99.2 % of 4,608 windows"; null before the first window. */
export function agreementText({ windows, agreement }: Pick<ShadowReport, 'windows' | 'agreement'>): string | null {
  if (windows === 0) return null;
  return `Agrees on ${formatAgreement(agreement)} of ${formatNumber(windows)} ${windows === 1 ? 'window' : 'windows'}`;
}

/** A share with one decimal; only what is all of it is shown as 100 %. */
export function formatAgreement(share: number): string {
  if (share >= 1) return '100 %';
  return `${formatNumber(Math.floor(Math.max(0, share) * 1000) / 10, 1)} %`;
}

/** What else tells a version in shadow from the active one. */
export function comparisonText({ mean_difference, alerts, active_alerts }: ShadowReport): string {
  let over = `it was over its threshold ${timesText(alerts)}, the active one ${timesText(active_alerts)}`;
  if (alerts === active_alerts) over = alerts === 0 ? 'neither was over its threshold' : `both were over the threshold ${timesText(alerts)}`;
  return `${over}; scores are ${formatNumber(mean_difference, 2)} thresholds apart on average`;
}

function timesText(count: number): string {
  if (count === 0) return 'never';
  return count === 1 ? 'once' : `${formatNumber(count)} times`;
}

const REASON_TEXT: Readonly<Record<Reason, string>> = {
  expired: 'the registry’s metadata is out of date',
  older_version: 'the registry’s metadata is older than what was seen before',
  mixed: 'the registry’s files do not belong together',
  signatures: 'signatures are missing',
  wrong_key: 'signed with a wrong key',
  endless_metadata: 'the registry’s metadata does not end',
  slow: 'the registry sends too slowly',
  unavailable: 'the registry does not answer',
  malformed: 'the registry’s metadata cannot be read',
  missing_target: 'the registry does not have it',
  target_name: 'its name in the registry is not allowed',
  digest: 'its bytes are not those that were signed',
  truncated: 'it ends too early',
  too_large: 'it is too large',
  manifest: 'its manifest cannot be used',
  assignment: 'the assignment cannot be used',
  unsupported: 'it needs what the gateway cannot run',
  external_data: 'it needs data outside its file',
  golden: 'a golden sample comes out differently',
  latency: 'it is too slow',
  memory: 'it takes too much memory',
  timeout: 'it did not answer in time',
  panic: 'the runtime panicked over it',
  crash: 'its process died',
  not_a_number: 'it gave something that is not a number',
  agreement: 'it agreed too little with the active version',
  crash_loop: 'the gateway did not stay up with it',
};

/** A reason for people; one that this page does not know yet by its own name. */
export function reasonText(reason: Reason): string {
  return (REASON_TEXT as Readonly<Record<string, string>>)[reason] ?? reason.replaceAll('_', ' ');
}

/** Why the registry as a whole was refused, in a sentence. */
export function registryText({ reason }: Pick<Refusal, 'reason'>): string {
  const text = reasonText(reason);
  return text.startsWith('the registry') ? text.charAt(0).toUpperCase() + text.slice(1) : `The registry’s metadata is refused: ${text}`;
}

const EVENT_WORD: Readonly<Record<ModelEvent['kind'], string>> = {
  activated: 'became active',
  shadow: 'went into shadow',
  refused: 'was refused',
  rolled_back: 'was rolled back',
};

/** Something that happened to a model, in a sentence: "soil-anomaly 1.1.0 was refused by home: a golden sample …". */
export function eventSentence({ model, version, kind, reason }: ModelEvent, gatewayName: string): string {
  const what = [model ?? 'the registry', version].filter((part) => part !== null).join(' ');
  const why = reason === null ? '' : `: ${reasonText(reason as Reason)}`;
  const text = `${what} ${EVENT_WORD[kind]} ${kind === 'refused' ? 'by' : 'on'} ${gatewayName}${why}`;
  return model === null ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}

/** A refusal concerns whoever pushed the version; a rollback also the alerts since it was active. */
export function eventTone(kind: ModelEvent['kind']): Tone {
  if (kind === 'rolled_back') return 'fault';
  if (kind === 'refused') return 'warning';
  return kind === 'activated' ? 'ok' : 'none';
}

/** How a version is doing on a gateway it is assigned to, or runs on. */
export interface Place {
  readonly gateway: string;
  readonly gatewayName: string;
  readonly kind: 'active' | Phase | 'waiting' | 'refused';
  /** In one or two words. */
  readonly word: string;
  readonly tone: Tone;
  readonly candidate: Candidate | null;
  readonly refusal: Refusal | null;
}

/** What a gateway is to run of a model: of several assignments, the one with the highest serial holds. */
export function assignmentOf(assignments: readonly Assignment[], gateway: string, model: string): Assignment | undefined {
  return assignments.filter((a) => a.gateway === gateway && a.model === model).toSorted((a, b) => b.serial - a.serial)[0];
}

export function modelStatus(update: UpdateStatus | null, model: string): ModelStatus | undefined {
  return update?.models.find((m) => m.name === model);
}

/** What a gateway said of its models; null when it has said nothing yet. */
export function updateOf(gateway: Pick<Gateway, 'status'>): UpdateStatus | null {
  return gateway.status?.update ?? null;
}

/** The refusal that ended what was assigned; an older one of the same version was before that. */
export function refusalOf(status: ModelStatus | undefined, assignment: Pick<Assignment, 'version' | 'at'>): Refusal | undefined {
  return status?.refusals.find((r) => r.version === assignment.version && Date.parse(r.at) >= Date.parse(assignment.at));
}

/** The newest refusal, where nothing has come after it: no other version is active since, and none is on its way. */
export function standingRefusal({ active, candidate, refusals: [newest] }: ModelStatus): Refusal | undefined {
  if (newest === undefined || candidate !== null) return undefined;
  return Date.parse(newest.at) >= Date.parse(active.since) ? newest : undefined;
}

/** How a version is doing on one gateway; null when it has nothing to do there. */
export function placeOf(
  version: Pick<ModelVersion, 'name' | 'version'>,
  gateway: FarmModels['gateways'][number],
  assignments: readonly Assignment[],
): Place | null {
  const status = modelStatus(gateway.update, version.name);
  const assignment = assignmentOf(assignments, gateway.id, version.name);
  const place = { gateway: gateway.id, gatewayName: gateway.name, candidate: null, refusal: null };
  if (status?.active.version === version.version) return { ...place, kind: 'active', word: 'active', tone: 'ok' };
  const candidate = status?.candidate ?? null;
  if (candidate?.version === version.version) {
    return { ...place, kind: candidate.phase, word: phaseWord(candidate.phase), tone: 'none', candidate };
  }
  if (assignment?.version !== version.version) return null;
  const refusal = refusalOf(status, assignment);
  if (refusal !== undefined) return { ...place, kind: 'refused', word: 'refused', tone: 'fault', refusal };
  return { ...place, kind: 'waiting', word: 'waiting', tone: 'none' };
}

/** Where a version is, gateway by gateway. */
export function placesOf(version: Pick<ModelVersion, 'name' | 'version'>, { gateways, assignments }: FarmModels): Place[] {
  return gateways.flatMap((gateway) => placeOf(version, gateway, assignments) ?? []);
}

/** Names that fit into a pill; the rest is counted. */
const NAMES_SHOWN = 2;

/** Places in a few words: "active on home", "in shadow on 3 gateways". */
export function placeTexts(places: readonly Place[]): { readonly text: string; readonly tone: Tone }[] {
  return [...groupBy(places, (place) => place.kind).values()].map((own) => {
    const [first] = own as [Place, ...Place[]];
    const where = own.length > NAMES_SHOWN ? `${own.length} gateways` : own.map((place) => place.gatewayName).join(', ');
    const preposition = first.kind === 'refused' ? 'by' : first.kind === 'waiting' ? 'for' : 'on';
    return { text: `${first.word} ${preposition} ${where}`, tone: first.tone };
  });
}
