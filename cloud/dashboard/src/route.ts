/** The pages and their addresses. */

import type { AlertState } from './client';
import { SPANS, type SpanName } from './span';

export type Route =
  | { readonly page: 'start' }
  | { readonly page: 'farm'; readonly farm: string }
  | { readonly page: 'stations'; readonly farm: string; readonly field?: string | undefined }
  | { readonly page: 'station'; readonly farm: string; readonly station: string; readonly span: SpanName; readonly at?: string | undefined }
  | { readonly page: 'alerts'; readonly farm: string; readonly state: AlertState; readonly station?: string | undefined }
  | { readonly page: 'models'; readonly farm: string }
  | { readonly page: 'model'; readonly farm: string; readonly model: string; readonly version: string }
  | { readonly page: 'gateways'; readonly farm: string }
  | { readonly page: 'unknown'; readonly path: string };

export function pathOf(route: Route): string {
  switch (route.page) {
    case 'start':
      return '/';
    case 'unknown':
      return route.path;
    case 'farm':
      return `/farms/${encodeURIComponent(route.farm)}`;
    case 'stations':
      return `/farms/${encodeURIComponent(route.farm)}/stations${query({ field: route.field })}`;
    case 'station':
      return `/farms/${encodeURIComponent(route.farm)}/stations/${encodeURIComponent(route.station)}${query({
        span: route.span === 'week' ? undefined : route.span,
        at: route.at,
      })}`;
    case 'alerts':
      return `/farms/${encodeURIComponent(route.farm)}/alerts${query({
        state: route.state === 'open' ? undefined : route.state,
        station: route.station,
      })}`;
    case 'models':
      return `/farms/${encodeURIComponent(route.farm)}/models`;
    case 'model':
      return `/farms/${encodeURIComponent(route.farm)}/models/${encodeURIComponent(route.model)}/${encodeURIComponent(route.version)}`;
    case 'gateways':
      return `/farms/${encodeURIComponent(route.farm)}/gateways`;
  }
}

function query(values: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) search.set(name, value);
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}

/** The page of an address; what is not understood in its query is left out. */
export function routeOf(url: Pick<URL, 'pathname' | 'search'>): Route {
  const unknown: Route = { page: 'unknown', path: url.pathname };
  let parts: string[];
  try {
    parts = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  } catch {
    return unknown;
  }
  const search = new URLSearchParams(url.search);
  const [root, farm, page, id, version, ...rest] = parts;
  if (root === undefined) return { page: 'start' };
  if (root !== 'farms' || farm === undefined || rest.length > 0) return unknown;
  if (page === 'models' && id !== undefined && version !== undefined) return { page: 'model', farm, model: id, version };
  if (version !== undefined) return unknown;
  if (page === undefined) return { page: 'farm', farm };
  if (page === 'stations' && id !== undefined) {
    const span = search.get('span');
    const at = search.get('at');
    return {
      page: 'station',
      farm,
      station: id,
      span: span !== null && span in SPANS ? (span as SpanName) : 'week',
      at: at !== null && !Number.isNaN(Date.parse(at)) ? at : undefined,
    };
  }
  if (id !== undefined) return unknown;
  if (page === 'stations') return { page: 'stations', farm, field: search.get('field') ?? undefined };
  if (page === 'models') return { page: 'models', farm };
  if (page === 'gateways') return { page: 'gateways', farm };
  if (page === 'alerts') {
    const state = search.get('state');
    return { page: 'alerts', farm, state: state === 'closed' || state === 'all' ? state : 'open', station: search.get('station') ?? undefined };
  }
  return unknown;
}
