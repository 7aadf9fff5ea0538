/** The cloud's API, typed by its own OpenAPI document. */

import createClient from 'openapi-fetch';
import type { components, paths } from './api';
import { sentence } from './sentence';

type Schemas = components['schemas'];
export type Me = Schemas['Me'];
export type Farm = Schemas['Farm'];
export type Overview = Schemas['Overview'];
export type Field = Schemas['Field'];
export type Station = Schemas['Station'];
export type StationDetail = Schemas['StationDetail'];
export type LatestValue = Schemas['LatestValue'];
export type Sparklines = Schemas['Sparklines'];
export type StationSeries = Schemas['StationSeries'];
export type ChannelSeries = Schemas['ChannelSeries'];
export type Resolution = Schemas['Resolution'];
export type Alert = Schemas['Alert'];
export type AlertKind = Schemas['AlertKind'];
export type Decision = Schemas['Decision'];
export type AlertPage = Schemas['AlertPage'];
export type AlertState = NonNullable<NonNullable<paths['/api/v1/farms/{farm}/alerts']['get']['parameters']['query']>['state']>;
export type Gateway = Schemas['Gateway'];
export type GatewayStatus = Schemas['GatewayStatus'];
export type Change = Schemas['Change'];
export type Problem = Schemas['Problem'];
export type Role = Me['role'];
export type ModelVersion = Schemas['ModelVersion'];
export type FarmModels = Schemas['FarmModels'];
export type Assignment = Schemas['ModelAssignment'];
export type Activation = Schemas['Activation'];
export type ModelEvent = Schemas['ModelEvent'];
export type UpdateStatus = Schemas['UpdateStatus'];
export type ModelStatus = Schemas['ModelStatus'];
export type Candidate = Schemas['Candidate'];
export type Phase = Schemas['UpdatePhase'];
export type SelfTest = Schemas['SelfTest'];
export type ShadowReport = Schemas['ShadowReport'];
export type Refusal = Schemas['UpdateRefusal'];
export type Reason = Schemas['UpdateReason'];
export type FarmNodes = Schemas['FarmNodes'];
export type NodeStatus = Schemas['NodeStatus'];
export type NodesPhase = Schemas['NodesPhase'];

export const api = createClient<paths>({
  baseUrl: location.origin,
  // A new connection each time: the function of the page at the time of the call, not at the time of loading.
  fetch: (request) => fetch(request),
});

/** A request that brought no answer that can be shown. */
export class Failure extends Error {
  constructor(
    /** HTTP status; null when nothing answered. */
    readonly status: number | null,
    message: string,
  ) {
    super(message);
    this.name = 'Failure';
  }
}

/** What openapi-fetch answers. */
interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/**
 * The data of an answer.
 *
 * @throws {Failure} when the server did not answer, or answered with a problem.
 */
export async function dataOf<T>(request: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Failure(null, 'The cloud does not answer.');
  }
  if (answer.response.ok) return answer.data as T;
  throw new Failure(answer.response.status, problemText(answer.error, answer.response.status));
}

/** What a problem says, in a sentence. */
export function problemText(error: unknown, status: number): string {
  if (typeof error === 'object' && error !== null) {
    const { title, detail } = error as Partial<Problem>;
    const text = detail ?? title;
    if (text) return sentence(text);
  }
  return `The cloud answered with status ${status}.`;
}

/** What went wrong, whatever was thrown. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure(null, error instanceof Error ? error.message : String(error));
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}
