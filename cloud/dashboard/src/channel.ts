import { quantityFacts } from './quantity';

/** A channel's name taken apart: one quantity at one depth or height. */
export interface Channel {
  readonly quantity: string;
  readonly levelCm: number | null;
}

/** Reads `soil_moisture_20cm` or `rain`. */
export function parseChannel(channel: string): Channel {
  const match = /^(.+)_(\d+)cm$/.exec(channel);
  return match?.[1] && match[2] ? { quantity: match[1], levelCm: Number(match[2]) } : { quantity: channel, levelCm: null };
}

/** As people say it: "soil moisture 20 cm". */
export function channelLabel(channel: string): string {
  const { quantity, levelCm } = parseChannel(channel);
  const { label } = quantityFacts(quantity);
  return levelCm === null ? label : `${label} ${levelText(levelCm)}`;
}

/** A depth or height, in metres from one metre on. */
export function levelText(levelCm: number): string {
  return levelCm >= 100 && levelCm % 10 === 0 ? `${levelCm / 100} m` : `${levelCm} cm`;
}

/** The depth that stands for the root zone when a field is told in one number. */
const ROOT_ZONE_CM = 20;

/** Of the soil moisture channels given, the one nearest to 20 cm; the shallower of two equally near ones. */
export function rootZoneChannel(channels: Iterable<string>): string | null {
  let best: { channel: string; distance: number; levelCm: number } | null = null;
  for (const channel of channels) {
    const { quantity, levelCm } = parseChannel(channel);
    if (quantity !== 'soil_moisture') continue;
    const level = levelCm ?? ROOT_ZONE_CM;
    const distance = Math.abs(level - ROOT_ZONE_CM);
    if (best === null || distance < best.distance || (distance === best.distance && level < best.levelCm)) {
      best = { channel, distance, levelCm: level };
    }
  }
  return best?.channel ?? null;
}

/** The shallowest channel of a quantity. */
export function shallowest(channels: Iterable<string>, quantity: string): string | null {
  let best: { channel: string; levelCm: number } | null = null;
  for (const channel of channels) {
    const parsed = parseChannel(channel);
    if (parsed.quantity !== quantity) continue;
    const levelCm = parsed.levelCm ?? 0;
    if (best === null || levelCm < best.levelCm) best = { channel, levelCm };
  }
  return best?.channel ?? null;
}
