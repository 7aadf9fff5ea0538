/** Versions of models: their order, and how they compare with what they were made from. */

import { agoText } from './age';
import type { ModelVersion } from './client';
import { momentText } from './farm-time';
import { groupBy } from './group';
import { formatNumber } from './quantity';

/** A model and its versions, the newest first. */
export interface Model {
  readonly name: string;
  readonly versions: readonly ModelVersion[];
}

/** Below zero when `a` is the older one: three numbers, compared one after the other. */
export function byVersion(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number)) as [number[], number[]];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The models, the one that was pushed last first; of each its versions, likewise. */
export function modelsOf(versions: readonly ModelVersion[]): Model[] {
  const newest = versions.toSorted((a, b) => Date.parse(b.pushed_at) - Date.parse(a.pushed_at) || byVersion(b.version, a.version));
  return [...groupBy(newest, (v) => v.name)].map(([name, own]) => ({ name, versions: own }));
}

/** Name and version, from how an alert or a label says them: "soil-anomaly 1.0.0". */
export function parseLabel(label: string): { readonly name: string; readonly version: string } | null {
  const match = /^([a-z0-9-]+) (\d+\.\d+\.\d+)$/.exec(label);
  return match?.[1] && match[2] ? { name: match[1], version: match[2] } : null;
}

/** One measure of a version, beside that of the version it was made from. */
export interface MetricRow {
  readonly name: string;
  readonly value: string;
  readonly parent: string;
  /** With its sign; "same" where nothing that is shown differs. */
  readonly difference: string;
}

/** A measure's digits after the point: enough to tell, few enough to read. Counts have none. */
function metricDecimals(...values: readonly number[]): number {
  const most = Math.max(...values.map(Math.abs));
  if (most > 1 && values.every(Number.isInteger)) return 0;
  if (most >= 100) return 1;
  if (most >= 10) return 2;
  return most >= 0.1 ? 3 : 4;
}

/** The measures of a version by name; what only the parent has comes too. */
export function metricRows(version: Pick<ModelVersion, 'metrics'>, parent: Pick<ModelVersion, 'metrics'> | undefined): MetricRow[] {
  const names = new Set([...Object.keys(version.metrics), ...Object.keys(parent?.metrics ?? {})]);
  return [...names].toSorted().map((name) => {
    const own = version.metrics[name];
    const before = parent?.metrics[name];
    const decimals = metricDecimals(...[own, before].filter((value) => value !== undefined));
    return {
      name: name.replaceAll('_', ' '),
      value: formatNumber(own, decimals),
      parent: formatNumber(before, decimals),
      difference: own === undefined || before === undefined ? formatNumber(null) : differenceText(own - before, decimals),
    };
  });
}

function differenceText(difference: number, decimals: number): string {
  const text = formatNumber(difference, decimals);
  if (!/[1-9]/.test(text)) return 'same';
  return difference > 0 ? `+${text}` : text;
}

/** How many characters of a digest tell versions apart. */
const DIGEST_SHOWN = 12;

export function shortDigest(digest: string): string {
  return digest.slice(0, DIGEST_SHOWN);
}

const DAY_MS = 86_400_000;

/** When a version was pushed. The registry is of no farm: this is by our clock, not the farm's. */
export function pushedText({ pushed_at }: Pick<ModelVersion, 'pushed_at'>, wall: number, timeZone: string): string {
  const at = Date.parse(pushed_at);
  return wall - at < DAY_MS ? agoText(wall - at) : momentText(at, wall, timeZone);
}
