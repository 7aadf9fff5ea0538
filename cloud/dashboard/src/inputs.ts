/** What goes into a model and comes out of it, in words. */

import { durationText } from './age';
import { channelLabel, levelText, parseChannel } from './channel';
import type { ModelVersion } from './client';
import { groupBy } from './group';
import { formatNumber, quantityFacts } from './quantity';

/** A quantity with all its levels: "soil moisture 10, 20, 40 cm". */
export interface InputGroup {
  readonly label: string;
  /** What is taken of each window, where it is not the mean alone: "min, mean, max". */
  readonly statistics: string | null;
}

/** Features such as `soil_moisture_20cm.mean`, by quantity in the order in which they first come. */
export function inputGroups(features: readonly string[]): InputGroup[] {
  const parsed = features.map((feature) => {
    const at = feature.lastIndexOf('.');
    return at < 0 ? { channel: feature, statistic: '' } : { channel: feature.slice(0, at), statistic: feature.slice(at + 1) };
  });
  const groups = groupBy(parsed, ({ channel }) => parseChannel(channel).quantity);
  return [...groups].map(([, own]) => {
    const statistics = [...new Set(own.map((f) => f.statistic))];
    return {
      label: channelsText([...new Set(own.map((f) => f.channel))]),
      statistics: statistics.length === 1 && statistics[0] === 'mean' ? null : statistics.join(', '),
    };
  });
}

/** Channels, those of one quantity together: "soil moisture 10, 20, 40 cm". */
export function channelGroups(channels: readonly string[]): string[] {
  return [...groupBy(channels, (channel) => parseChannel(channel).quantity).values()].map(channelsText);
}

/** Channels of one quantity. */
function channelsText(channels: readonly string[]): string {
  const [first = ''] = channels;
  const levels = channels.flatMap((channel) => parseChannel(channel).levelCm ?? []);
  if (channels.length === 1 || levels.length !== channels.length) return channels.map(channelLabel).join(', ');
  const texts = levels.map(levelText);
  const unit = texts[0]?.split(' ')[1] ?? '';
  const sameUnit = texts.every((text) => text.endsWith(` ${unit}`));
  const list = sameUnit ? `${texts.map((text) => text.split(' ')[0]).join(', ')} ${unit}` : texts.join(', ');
  return `${quantityFacts(parseChannel(first).quantity).label} ${list}`;
}

/** "96 windows of 15 min: the last 24 h" */
export function windowsText({ steps, window_s }: Pick<ModelVersion, 'steps' | 'window_s'>): string {
  const window = durationText(window_s * 1000);
  if (steps === 1) return `one window of ${window}`;
  return `${formatNumber(steps)} windows of ${window}: the last ${hoursText(steps * window_s)}`;
}

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

/** A duration as people say it of a plan: whole hours up to two days, otherwise its two largest units. */
export function hoursText(seconds: number): string {
  if (seconds >= HOUR_S && seconds <= 2 * DAY_S && seconds % HOUR_S === 0) return `${seconds / HOUR_S} h`;
  return durationText(seconds * 1000);
}
