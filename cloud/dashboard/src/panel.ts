/** A station's charts: one panel for each quantity, lines by depth. */

import { levelText } from './channel';
import type { Alert, ChannelSeries, StationSeries } from './client';
import { quantityFacts } from './quantity';
import { type RejectedOf, rejectedOf } from './rejected';
import { align, type Rejection, rejections, stepOf, totals } from './series';
import { type ValueAxis, valueAxis } from './value-axis';

/** Names of colours in the style sheet. */
export type Colour = 'depth-1' | 'depth-2' | 'depth-3' | 'warm';

export interface PanelLine {
  readonly channel: string;
  /** What the legend calls it. */
  readonly label: string;
  readonly colour: Colour;
  readonly values: readonly (number | null)[];
  /** The shade around the line; none for totals. */
  readonly shade: { readonly min: readonly (number | null)[]; readonly max: readonly (number | null)[] } | null;
}

export interface Panel {
  readonly quantity: string;
  readonly title: string;
  /** Unit and what a point is: "m³/m³ · mean of 15 min, shade min–max". */
  readonly note: string;
  readonly form: 'lines' | 'bars';
  readonly height: number;
  /** Starts of the points, seconds. */
  readonly times: readonly number[];
  readonly lines: readonly PanelLine[];
  readonly rejections: readonly Rejection[];
  /** How many readings of each channel were rejected, and why. */
  readonly rejected: readonly RejectedOf[];
  readonly axis: ValueAxis;
}

export interface Section {
  readonly title: string;
  readonly panels: readonly Panel[];
}

const SECTIONS: readonly { title: string; quantities: readonly string[] }[] = [
  { title: 'Soil', quantities: ['soil_moisture', 'rain', 'soil_temperature', 'soil_ec', 'nitrate', 'phosphorus', 'potassium'] },
  {
    title: 'Weather',
    quantities: ['air_temperature', 'relative_humidity', 'wind_speed', 'solar_radiation', 'pressure', 'leaf_wetness'],
  },
  { title: 'Station', quantities: ['battery', 'rssi'] },
];

const TITLES: Readonly<Record<string, string>> = { soil_ec: 'Soil EC', rssi: 'Signal' };
const HEIGHTS: Readonly<Record<string, number>> = { soil_moisture: 206, soil_temperature: 118, rain: 78 };
const USUAL_HEIGHT = 92;

/** The charts of a station's series, in sections. Quantities without a channel are left out; those without a point stay, empty. */
export function sections(series: StationSeries, point: string): Section[] {
  const stepS = stepOf(series);
  return SECTIONS.flatMap(({ title, quantities }) => {
    const panels = quantities.flatMap((quantity) => {
      const own = series.series.filter((s) => s.quantity === quantity).toSorted((a, b) => (a.level_cm ?? 0) - (b.level_cm ?? 0));
      return own.length === 0 ? [] : [panelOf(quantity, own, stepS, point)];
    });
    return panels.length === 0 ? [] : [{ title, panels }];
  });
}

function panelOf(quantity: string, own: readonly ChannelSeries[], stepS: number, point: string): Panel {
  const facts = quantityFacts(quantity);
  const shared = {
    quantity,
    title: TITLES[quantity] ?? facts.label.charAt(0).toUpperCase() + facts.label.slice(1),
    height: HEIGHTS[quantity] ?? USUAL_HEIGHT,
    rejections: rejections(own),
    rejected: rejectedOf(own),
  };
  const rain = own[0];
  if (quantity === 'rain' && rain !== undefined) {
    // Quarters of an hour are too narrow to be seen as bars.
    const bucketS = Math.max(stepS, 3600);
    const { times, totals: values } = totals(rain, bucketS);
    const line: PanelLine = { channel: rain.channel, label: 'rain', colour: 'depth-2', values, shade: null };
    // A total has no place for single readings that were rejected; the alert marks say when the gauge was at fault.
    return {
      ...shared,
      rejections: [],
      note: `${facts.symbol} per ${bucketS >= 86_400 ? 'day' : 'hour'}`,
      form: 'bars',
      times,
      lines: [line],
      axis: axisOf(quantity, [values], []),
    };
  }
  const { times, channels } = align(own, stepS);
  const lines = channels.map((c, i): PanelLine => ({
    channel: c.channel,
    label: c.levelCm === null ? facts.label : levelText(c.levelCm),
    colour: colourOf(quantity, i, channels.length),
    values: c.mean,
    shade: { min: c.min, max: c.max },
  }));
  const shades = lines.flatMap((l) => (l.shade === null ? [] : [l.shade.min, l.shade.max]));
  return {
    ...shared,
    note: `${facts.symbol} · ${point}${quantity === 'soil_moisture' ? ', shade min–max' : ''}`,
    form: 'lines',
    times,
    lines,
    axis: axisOf(quantity, shades, shared.rejections),
  };
}

/** Depth is one hue, light to dark; temperature is warm at the top. */
function colourOf(quantity: string, rank: number, of: number): Colour {
  if (quantity === 'air_temperature' || (quantity === 'soil_temperature' && rank === 0)) return 'warm';
  if (of === 1) return 'depth-2';
  const shades: Colour[] = ['depth-1', 'depth-2', 'depth-3'];
  return shades[Math.round((rank / (of - 1)) * 2)] ?? 'depth-3';
}

/** How far the axis reaches out for a rejected reading, as a share of what the accepted ones span. Others stand at the edge. */
const REACH = 0.35;

function axisOf(quantity: string, columns: readonly (readonly (number | null)[])[], rejected: readonly Rejection[]): ValueAxis {
  const { leastSpan, base, ceiling } = quantityFacts(quantity);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const column of columns) {
    for (const value of column) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) [low, high] = base === undefined ? [0, 0] : [base, base];
  const reach = REACH * Math.max(high - low, leastSpan);
  const near = rejected.map((r) => r.value).filter((v) => v >= low - reach && v <= high + reach);
  return valueAxis(Math.min(low, ...near), Math.max(high, ...near), { leastSpan, base, ceiling });
}

/** An alert on a chart: from when to when, ms; still open where there is no end. */
export interface Mark {
  readonly id: string;
  readonly from: number;
  readonly to: number | null;
  readonly label: string;
  readonly tone: 'warning' | 'fault';
}

/** Whether an alert is about a quantity's chart; one about the whole station is about all. */
export function concerns(alert: Pick<Alert, 'channel' | 'drivers'>, panel: Pick<Panel, 'lines'>): boolean {
  const channel = alert.channel ?? alert.drivers[0]?.channel ?? null;
  return channel === null || panel.lines.some((line) => line.channel === channel);
}
