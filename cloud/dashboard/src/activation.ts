/** The form that activates a version: what was typed, and what is sent. */

import { durationText } from './age';
import type { Activation } from './client';
import { hoursText } from './inputs';

const HOUR_S = 3600;
export const DEFAULT_SHADOW_H = 24;
/** Percent. Scores are mostly far below the threshold, so versions that do the same agree on nearly all of them. */
export const DEFAULT_AGREEMENT = 90;
/** The cloud takes no longer shadow: a season. */
export const MAX_SHADOW_H = 180 * 24;

export interface ActivationForm {
  /** The gateways that are chosen. */
  readonly gateways: readonly string[];
  /** Hours of farm time, as typed. */
  readonly shadow: string;
  /** Percent, as typed. */
  readonly agreement: string;
}

/** What is sent, but for the version. */
export type ActivationRequest = Required<Omit<Activation, 'version'>>;

/** What is wrong with each field; what is right is not there. */
export type ActivationMistakes = Partial<Record<keyof ActivationForm, string>>;

export type CheckedActivation = { readonly request: ActivationRequest } | { readonly mistakes: ActivationMistakes };

/** A number as people type it, also with a comma. */
function numberOf(text: string): number {
  const trimmed = text.trim().replace(',', '.');
  return /^\d+(\.\d+)?$/.test(trimmed) ? Number(trimmed) : Number.NaN;
}

export function checkActivation({ gateways, shadow, agreement }: ActivationForm): CheckedActivation {
  const hours = numberOf(shadow);
  const percent = numberOf(agreement);
  const mistakes: ActivationMistakes = {};
  if (gateways.length === 0) mistakes.gateways = 'Choose at least one gateway.';
  if (!(hours <= MAX_SHADOW_H)) mistakes.shadow = `Give hours from 0 to ${MAX_SHADOW_H.toLocaleString('en-US')}.`;
  if (!(percent <= 100)) mistakes.agreement = 'Give a percentage from 0 to 100.';
  if (Object.keys(mistakes).length > 0) return { mistakes };
  return { request: { gateways: [...gateways], shadow_s: Math.round(hours * HOUR_S), min_agreement: percent / 100 } };
}

/** What a time in shadow means on a farm whose time may run faster than ours. */
export function shadowText(shadow: string, speed: number): string | null {
  const seconds = numberOf(shadow) * HOUR_S;
  if (Number.isNaN(seconds)) return null;
  if (seconds === 0) return 'It takes over as soon as its self-test has passed.';
  if (speed === 1) return null;
  return `${hoursText(seconds)} of this farm’s time, which is ${durationText((seconds / speed) * 1000)} of yours.`;
}
